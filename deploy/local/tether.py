"""Runs a program that ends when its supervisor ends, whatever ended that.

    python tether.py SUPERVISOR_PID SIGNAL USER PROGRAM [ARGUMENT...]

The kernel sends SIGNAL to the program when the supervisor dies (PR_SET_PDEATHSIG of prctl(2), Linux). USER is the
account to run as, or empty for the present one. A separate interpreter instead of `preexec_fn`, which is unsafe in a
process with threads; it is replaced by the program, so that the process id is the program's own.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Give up the present account for another one, with its groups."""
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def main() -> None:
    """Tie this process to its supervisor, then become the program."""
    supervisor, death_signal, user, *argv = sys.argv[1:]
    if user:
        become(user)
    # After the change of account, which clears the setting.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal)) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != int(supervisor):
        sys.exit("the supervisor ended before its program began")
    os.execvp(argv[0], argv)


main()
