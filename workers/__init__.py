"""The Celery worker process: the application, what happens around the fork, and the tasks."""
