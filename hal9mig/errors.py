"""The one error tree: a sentence, a hint, a stable code, an exit code; only ``hal9mig.cli`` makes a text of them."""

from __future__ import annotations

from typing import ClassVar

from hal9mig import safe_text

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_PROBLEMS = 3
EXIT_REFUSED = 4
EXIT_UNREACHABLE = 5
EXIT_TIMEOUT, EXIT_INTERRUPTED = 124, 130


class HAL9Error(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "FAILED"
    exit_code: ClassVar[int] = EXIT_FAILED
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str | None = None, *, hint: str | None = None, **context: object):
        self.message = safe_text.masked(message or (self.__doc__ or "").strip().splitlines()[0])
        self.hint = hint if hint is not None else self.default_hint
        self.context = {name: safe_text.masked(str(value)) for name, value in context.items()}
        super().__init__(self.message)


class UsageError(HAL9Error):
    """The command line is wrong."""

    code = "USAGE"
    exit_code = EXIT_USAGE


class UnknownCategory(UsageError):
    """No category has this name."""

    code = "UNKNOWN_CATEGORY"
    default_hint = "hal9-migrate state status"


class InvalidFilter(UsageError):
    """The filter cannot be read."""

    code = "INVALID_FILTER"


class InvalidUnit(UsageError):
    """The value or its unit cannot be read."""

    code = "INVALID_UNIT"


class ConflictingFlags(UsageError):
    """These flags exclude each other."""

    code = "CONFLICTING_FLAGS"


class InvalidSettings(UsageError):
    """The settings cannot be read."""

    code = "INVALID_SETTINGS"
    default_hint = "hal9-migrate configure show --origin"


class InvalidCategory(UsageError):
    """A category's declaration contradicts itself."""

    code = "INVALID_CATEGORY"


class Refused(HAL9Error):
    """Refused; nothing was changed."""

    code = "REFUSED"
    exit_code = EXIT_REFUSED


class NotFound(Refused):
    """There is nothing of this name."""

    code = "NOT_FOUND"


class ConfirmationRequired(Refused):
    """This needs a confirmation, and there is no terminal to ask on."""

    code = "CONFIRMATION_REQUIRED"
    default_hint = "add --yes to answer the question beforehand"


class IllegalTransition(Refused):
    """This state cannot be left that way."""

    code = "ILLEGAL_TRANSITION"


class RunActive(Refused):
    """A run of this category is under way already."""

    code = "RUN_ACTIVE"


class SchemaBehind(Refused):
    """A database schema is older than this program."""

    code = "SCHEMA_BEHIND"
    default_hint = "hal9-migrate db upgrade"


class SchemaMismatch(Refused):
    """A table or column that the category declares is missing."""

    code = "SCHEMA_MISMATCH"
    default_hint = "hal9-migrate db check"


class RightsMissing(Refused):
    """The account lacks rights that the command needs."""

    code = "RIGHTS_MISSING"
    default_hint = "hal9-migrate db grants"


class RightsLacking(RightsMissing):
    """The account lacks rights that some command needs."""

    code = "RIGHTS_LACKING"
    exit_code = EXIT_PROBLEMS


class OneDatabase(Refused):
    """Both stores are one database."""

    code = "ONE_DATABASE"


class PoolerBetween(Refused):
    """A connection pooler is between, and this needs a session of the server's own."""

    code = "POOLER_BETWEEN"


class TargetNotEmpty(Refused):
    """The target holds rows that no run has written."""

    code = "TARGET_NOT_EMPTY"


class StackRefused(Refused):
    """The stack cannot be started or stopped as things stand."""

    code = "STACK_REFUSED"
    default_hint = "hal9-migrate stack status"


class StackFailed(HAL9Error):
    """A server or process of the stack did not start."""

    code = "STACK_FAILED"
    default_hint = "hal9-migrate stack status"


class ServersIncomparable(Refused):
    """The two servers do not hash alike, so their digests cannot be compared."""

    code = "SERVERS_INCOMPARABLE"


class WritersInFlight(Refused):
    """A transaction that has written is still open."""

    code = "WRITERS_IN_FLIGHT"
    default_hint = "let it end, or end it with SELECT pg_terminate_backend(pid), and try again"


class GateClosed(Refused):
    """The gate does not let the switch pass."""

    code = "GATE_CLOSED"


class StaleEpoch(Refused):
    """The write mode has changed since it was read."""

    code = "STALE_EPOCH"
    default_hint = "read the write mode again and repeat the transaction"


class OperationPaused(Refused):
    """This operation is paused while the state is being migrated."""

    code = "OPERATION_PAUSED"
    default_hint = "hal9-migrate mode"


class InvalidRecord(UsageError):
    """A record or a key has another form than its category declares."""

    code = "INVALID_RECORD"


class RecordRefused(Refused):
    """The store refuses the record."""

    code = "RECORD_REFUSED"


class Conflict(Refused):
    """The record is not at the version that was expected."""

    code = "CONFLICT"
    default_hint = "read the record again and decide anew"


class WritesClosed(Refused):
    """A switch of the write mode is under way, and neither store takes writes."""

    code = "WRITES_CLOSED"
    default_hint = "hal9-migrate mode"


class Unreachable(HAL9Error):
    """A server cannot be reached."""

    code = "UNREACHABLE"
    exit_code = EXIT_UNREACHABLE
    default_hint = "hal9-migrate stack status"


class StoreUnreachable(Unreachable):
    """The database cannot be reached."""

    code = "STORE_UNREACHABLE"


class CheckpointDamaged(HAL9Error):
    """A checkpoint is not what it was when it was written."""

    code = "CHECKPOINT_DAMAGED"
    exit_code = EXIT_PROBLEMS
    default_hint = "hal9-migrate state recover --from-backup NAME --quarantine-corrupted"


class ChunkMissing(CheckpointDamaged):
    """A file of a checkpoint is gone."""

    code = "CHUNK_MISSING"


class CheckpointStale(Refused):
    """A checkpoint was taken of other tables than there are now."""

    code = "CHECKPOINT_STALE"
    default_hint = "docs/checkpoints.md shows how to load it without this program"


class NotRestorable(Refused):
    """A checkpoint does not hold what is to be restored."""

    code = "NOT_RESTORABLE"
    default_hint = "hal9-migrate state list-checkpoints"


class NameTaken(Refused):
    """There is a checkpoint of this name already."""

    code = "NAME_TAKEN"
    default_hint = "hal9-migrate state list-checkpoints"


class RestoreActive(Refused):
    """A checkpoint is being restored."""

    code = "RESTORE_ACTIVE"
    default_hint = "hal9-migrate runs list --active"


class ArchiveFull(HAL9Error):
    """There is no room for the checkpoint."""

    code = "ARCHIVE_FULL"
    default_hint = "make room, or name another place with HAL9_CHECKPOINT_URL"


class ArchiveUnreachable(Unreachable):
    """The place where checkpoints lie cannot be reached."""

    code = "ARCHIVE_UNREACHABLE"
    default_hint = "hal9-migrate configure show --origin"


class LeftOut(ArchiveUnreachable):
    """A worker does not see the place where a run's files lie; others may."""

    code = "LEFT_OUT"


class InstantLost(Unreachable):
    """The snapshot that a checkpoint is read under is gone; another is taken."""

    code = "INSTANT_LOST"


class RestoreHalfDone(Unreachable):
    """One store is restored and the other is not yet; the run goes on until it is."""

    code = "RESTORE_HALF_DONE"


class OutcomeUnknown(Unreachable):
    """The connection was lost while the transaction committed, so nobody can say whether it did."""

    code = "OUTCOME_UNKNOWN"
    default_hint = "read the records again"


class QueueUnreachable(Unreachable):
    """Redis cannot be reached."""

    code = "QUEUE_UNREACHABLE"


class LoginRefused(Unreachable):
    """The server refused the login."""

    code = "LOGIN_REFUSED"
    default_hint = "hal9-migrate configure show --origin"


class NotConfigured(Unreachable):
    """No address is known for a server that is needed."""

    code = "NOT_CONFIGURED"
    default_hint = "hal9-migrate stack up --detach"


class RunFailed(HAL9Error):
    """The run failed."""

    code = "RUN_FAILED"


class DifferencesFound(HAL9Error):
    """The two stores differ."""

    code = "DIFFERENCES_FOUND"
    exit_code = EXIT_PROBLEMS


class ChecksFailed(HAL9Error):
    """A check has failed."""

    code = "CHECKS_FAILED"
    exit_code = EXIT_PROBLEMS


class RecordsQuarantined(HAL9Error):
    """The run ended with records in quarantine."""

    code = "RECORDS_QUARANTINED"
    exit_code = EXIT_PROBLEMS
    default_hint = "hal9-migrate quarantine list"


class StandsStill(HAL9Error):
    """Something that has to go on stands still."""

    code = "STANDS_STILL"
    exit_code = EXIT_PROBLEMS


class TimedOut(HAL9Error):
    """The time limit passed; the work goes on."""

    code = "TIMED_OUT"
    exit_code = EXIT_TIMEOUT


class Interrupted(HAL9Error):
    """Interrupted; the work goes on on the workers."""

    code = "INTERRUPTED"
    exit_code = EXIT_INTERRUPTED


class LeaseLost(HAL9Error):
    """The lease went to another worker, so nothing was written."""

    code = "LEASE_LOST"


class RecordRejected(HAL9Error):
    """A record cannot be transformed."""

    code = "RECORD_REJECTED"
