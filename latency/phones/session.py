"""A session on a phone: the right to time models there, and a folder on the phone for them.

Two programs that time on one phone would slow each other down, and with one folder they would time each other's models.
A session is therefore a folder whose name contains the number of the process that holds it: a shell on the phone that
waits for its input to end. It ends with this program, however that ends, and with the connection, so there is nothing
to clean up afterwards. Each program first makes its folder and then looks for others, so two of them cannot miss each
other.
"""

import random
import secrets
import time

from latency.phones import adb
from latency.phones.adb import DeviceError

# The folder that an Android shell may write to and run programs from.
FOLDER = "/data/local/tmp/pnas_tf"
OPEN_S = 30.0
# How often a session is tried: two programs that start at the same moment both give way.
TRIES = 3

# A session ends its benchmark, which may still run, and is removed: by its own process, or by the next session if that
# process was killed. $1 is the session's name.
_HOLD = f"""
end() {{
  b=$(cat "$1/pid" 2>/dev/null) && grep -q benchmark_model "/proc/$b/cmdline" 2>/dev/null && kill -9 "$b"
  rm -rf "$1"
}}
s={FOLDER}/$1.$$; mkdir -p $s || exit 1
other=
for d in {FOLDER}/session-*; do
  n=${{d##*/}}; p=${{d##*.}}
  if [ "$d" = $s ]; then continue; fi
  if grep -q "${{n%.*}}" "/proc/$p/cmdline" 2>/dev/null; then other=$p; continue; fi
  end "$d"
done
if [ "$other" ]; then rm -rf $s; echo "busy $other"; exit; fi
echo "session $s"
read line
end $s
"""


class InUseError(DeviceError):
    """Another program times models on the phone; it can be used later."""


class Session:
    """The right to time models on a phone.

    Attributes:
        folder: Folder on the phone that belongs to this session.
    """

    def __init__(self, device: adb.Adb):
        """Takes the phone.

        Args:
            device: Connection to the phone.

        Raises:
            InUseError: If another program has the phone.
            DeviceError: If the phone is lost, or its folder cannot be made.
        """
        for last in (False,) * (TRIES - 1) + (True,):
            name = f"session-{secrets.token_hex(8)}"
            self._held = device.hold(f"set -- {name}; {_HOLD}", OPEN_S)
            word, _, rest = self._held.said.partition(" ")
            if word == "session" and rest.startswith(f"{FOLDER}/{name}.") and rest.rpartition(".")[2].isdecimal():
                self.folder = rest
                return
            self._held.close()
            if word != "busy":
                raise DeviceError(f"{device.serial}: no session in {FOLDER}: {self._held.said}")
            if last:
                raise InUseError(f"{device.serial} is in use by another program of pnas_tf, process {rest} on the "
                                 "phone. Wait for its end; if there is none: adb kill-server")
            time.sleep(random.uniform(0.05, 0.5))

    def is_alive(self) -> bool:
        """Whether the phone still belongs to this session."""
        return self._held.is_alive()

    def close(self) -> None:
        """Gives the phone back, and removes the session's folder from it."""
        self._held.close()
