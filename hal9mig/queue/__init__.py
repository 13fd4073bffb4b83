"""How work travels: the Celery application, its queues and priorities, and publishing."""
