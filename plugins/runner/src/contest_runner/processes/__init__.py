"""The processes of jobs: how one is started, bounded, read, and how it is made sure that none is left.

The runner keeps one `Supervisor` a server and takes a `JobProcesses` from it for each job;
`StepContext.spawn` is `JobProcesses.spawn`. Below is the operating system alone: this package knows nothing
of targets, steps, the store or the API. Every process of a job leads a session of its own and carries a
marker in its environment that names the store and the job, so that whatever a job has started can be found
again, by this server while it is the subreaper of its descendants, and by the next one if this one is killed.

On purpose no child watcher of the event loop is used: a process is started by `subprocess` (by vfork, which
does not copy the page tables of a big server) and waited for through its pidfd, alike on asyncio and uvloop.
Beyond reach is a process that both scrubs its environment and leaves its session, or that runs as another
user.
"""

from contest_runner.processes.account import Survivor
from contest_runner.processes.errors import SpawnError, describe_exit
from contest_runner.processes.job import CAPTURE_LIMIT, KEEP, JobProcesses
from contest_runner.processes.output import Output
from contest_runner.processes.process import Process
from contest_runner.processes.supervisor import Supervisor

__all__ = [
    "CAPTURE_LIMIT",
    "KEEP",
    "JobProcesses",
    "Output",
    "Process",
    "SpawnError",
    "Supervisor",
    "Survivor",
    "describe_exit",
]
