# Runs a program for which setgroups(2) does nothing and succeeds: no-setgroups.py PROGRAM ARGUMENT ...
#
# zebra sets its groups when it starts and ends if it may not, and in the namespaces of an ordinary user nobody may.
import ctypes
import os
import struct
import sys

# Architecture as audit calls it, number of setgroups; of linux/audit.h and asm/unistd.h.
MACHINES = {"x86_64": (0xC000003E, 116), "aarch64": (0xC00000B7, 159)}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO_0 = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE = 0, 4  # where they are in seccomp_data

architecture, setgroups = MACHINES[os.uname().machine]
steps = [
    (LOAD, 0, 0, ARCHITECTURE),
    (JUMP_IF_EQUAL, 0, 3, architecture),
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 1, setgroups),
    (RETURN, 0, 0, ERRNO_0),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


program = Program(len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
