"""The services of the embedded platform as processes of this machine: start them, wait until they answer, stop them, nothing else.

It knows processes, ports and files, and nothing of models or flights. Which services there are is said by `bootstrap.services`.
"""

from mlops_lab.embedded.ports import require_free
from mlops_lab.embedded.service import Service, State, Status
from mlops_lab.embedded.supervisor import Supervisor, require_running

__all__ = ["Service", "State", "Status", "Supervisor", "require_free", "require_running"]
