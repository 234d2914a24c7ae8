"""Every error that a user can cause, in one tree.

    PolytopeError
    ├── UsageError               an argument has an impossible value
    ├── UnknownName              a network, site, span, example, label or clustering that is not there
    ├── WidthError               a code whose width is not that of its site
    ├── NotStored                the question needs something that was not ingested (activations, full codes)
    ├── TooManyPoints            the exact method would not fit; says which N would
    ├── StoreError
    │   ├── NotAnAtlas           no such folder, or a folder without an atlas in it
    │   ├── SchemaVersionError   the atlas was written by another version
    │   ├── AtlasLocked          another process is writing (or reading, when we want to write)
    │   ├── DamagedAtlas         the database can't be read, or its parts contradict each other
    │   └── DiskFull             no space left; what was complete is kept
    ├── HammingIndexError
    │   ├── IndexMissing         no index has been built
    │   └── IndexMismatch        the index was built from other codes
    ├── DataError
    │   ├── BadInput             a file or record that can't be read (named)
    │   ├── EmptyDataset         nothing to ingest
    │   ├── SequenceTooShort     a text with fewer tokens than are skipped
    │   └── NonFinite            NaN or infinity in a preactivation or activation
    ├── NetworkError
    │   ├── UnsupportedNetwork   no single element-wise nonlinearity to read a code from
    │   ├── WeightsError         the weights don't fit the network, or not the atlas
    │   └── HubUnavailable       a hub name was given and the hub can't be reached
    ├── RunError
    │   ├── PlanChanged          an unfinished run has another plan
    │   ├── WorkersLost          processes that read for a run end again and again
    │   └── RunInterrupted       stopped by Ctrl-C; the same command goes on
    ├── SqlError
    │   ├── SqlRefused           a statement that is not a query, or that leaves the sandbox
    │   ├── SqlFailed            the database's own message
    │   └── SqlTimeout           the time limit was reached
    └── ServiceError
        ├── ServerUnreachable    no server of atlases answers at the address
        ├── ServerFailed         it failed in a way that nobody foresaw; its log says how
        ├── AccessDenied         the token is missing or wrong, or the host is none of the server's
        ├── BadRequest           what was sent can't be read as a request
        ├── TooBusy              more is asked at a time than it takes
        ├── AnswerTooSlow        the answer takes longer than it allows
        └── AnswerTooLarge       the answer has more rows or megabytes than it sends

A message says what was given, what was expected and what to do next. The command line and the explorer print it
as it stands, so it uses the names that the user typed.
"""


class PolytopeError(Exception):
    """Base of every error raised on purpose by this project."""


class UsageError(PolytopeError, ValueError):
    """An argument has an impossible value."""


class UnknownName(PolytopeError, LookupError):
    """A name or number that the atlas does not hold."""


class WidthError(PolytopeError, ValueError):
    """A code has another number of bits than its site has gates."""


class NotStored(PolytopeError, LookupError):
    """The question needs something that was not ingested."""


class TooManyPoints(PolytopeError):
    """An exact method would need more memory than it may use."""


class StoreError(PolytopeError):
    """Something about the atlas as a whole."""


class NotAnAtlas(StoreError):
    """The path holds no atlas."""


class SchemaVersionError(StoreError):
    """The atlas was written by another version of the schema."""


class AtlasLocked(StoreError):
    """Another process holds the database."""


class DamagedAtlas(StoreError):
    """The database can't be read, or its parts contradict each other."""


class DiskFull(StoreError):
    """No space left on the device."""


class HammingIndexError(PolytopeError):
    """Something about a Hamming index."""


class IndexMissing(HammingIndexError):
    """No index was built for the site or span, or its file is gone."""


class IndexMismatch(HammingIndexError):
    """The index was built from other codes than the atlas holds."""


class DataError(PolytopeError):
    """Something about the data to ingest."""


class BadInput(DataError):
    """One input can't be read."""


class EmptyDataset(DataError):
    """The data holds no input."""


class SequenceTooShort(DataError):
    """A text has too few tokens for the sampling."""


class NonFinite(DataError):
    """NaN or infinity where a number is needed."""


class NetworkError(PolytopeError):
    """Something about the network."""


class UnsupportedNetwork(NetworkError):
    """The network has no place where a spline code can be read."""


class WeightsError(NetworkError):
    """The weights do not fit the architecture, or are not those of the atlas."""


class HubUnavailable(NetworkError):
    """A hub had to be asked and did not answer."""


class RunError(PolytopeError):
    """Something about an ingestion run."""


class PlanChanged(RunError):
    """An unfinished run of the same name has another plan."""


class WorkersLost(RunError):
    """Processes that write shards of a run end again and again."""


class RunInterrupted(RunError):
    """Stopped by the user; complete shards are kept."""


class SqlError(PolytopeError):
    """Something about a user's SQL."""


class SqlRefused(SqlError):
    """The statement is not a query, or leaves the sandbox."""


class SqlFailed(SqlError):
    """The database refused the query; its own message follows."""


class SqlTimeout(SqlError):
    """The query ran longer than its time limit."""


class ServiceError(PolytopeError):
    """Something between a program and a server of atlases."""


class ServerUnreachable(ServiceError):
    """No server of atlases answers at the address."""


class ServerFailed(ServiceError):
    """The server failed in a way that nobody foresaw; its log says how."""


class AccessDenied(ServiceError):
    """The token is missing or wrong, or the request names a host that is not the server's."""


class BadRequest(ServiceError):
    """What was sent can't be read as a request."""


class TooBusy(ServiceError):
    """More is asked at a time than the server takes."""


class AnswerTooSlow(ServiceError):
    """The answer takes longer than the server allows."""


class AnswerTooLarge(ServiceError):
    """The answer has more rows or megabytes than the server sends."""
