"""The content of a deleted file is saved only if the job's user could read it, since a restored job owns the new file."""
import pytest

from refused import base, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)

SECRET = "the secret of another user"
HOW = {
    "O_PATH": (0o600, "fd = os.open(sys.argv[1], os.O_PATH)", "open as descriptor 3"),
    "writing": (0o622, "fd = os.open(sys.argv[1], os.O_WRONLY)", "open as descriptor 3"),
}
IN_FLIGHT = """
import array, socket
def send(fd):
    a, b = socket.socketpair()
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
    return a, b
def receive(pair):
    data, control, flags, addr = pair[1].recvmsg(1, socket.CMSG_LEN(4))
    return array.array("i", control[0][2])[0]
"""


def secret(pods, mode):
    file = pods.place("other") / "secret"
    file.write_text(SECRET)
    file.chmod(mode)
    return file


def start(pods, file, text):
    job = python(pods, text + "\nready()\n")
    job.command += (str(file),)
    job.start()
    file.unlink()
    return job


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("fault", ["", "no-preflight"])
def test_a_deleted_file_that_the_user_may_not_read(pods, how, fault):
    mode, text, words = HOW[how]
    job = start(pods, secret(pods, mode), text)
    job.refused("process 3 (python3) has ", "/secret (deleted)", words, "which the job's user may not read", fault=fault)


@pytest.mark.parametrize("how", HOW)
def test_on_its_way_through_a_socket(pods, how):
    """No process has it open, so only criu sees it."""
    mode, text, _ = HOW[how]
    job = start(pods, secret(pods, mode), f"{IN_FLIGHT}\n{text}\npair = send(fd)")
    job.refused("Permission denied")


def test_a_deleted_file_that_the_user_may_read(pods):
    """Open with O_PATH, in flight through a socket, and as a descriptor."""
    read = 'assert open(f"/proc/self/fd/{fd}").read() == "' + SECRET + '"\n'
    text = f"""{IN_FLIGHT}
pair = send(os.open(sys.argv[1], os.O_PATH))
held = os.open(sys.argv[1], os.O_PATH)
ready()
for fd in held, receive(pair):
    {read}
sys.exit(0)"""
    job = start(pods, secret(pods, 0o644), text)
    job.comes_back()


def test_a_deleted_file_of_the_users_own_without_a_mode(pods):
    text = f"""
fd = os.open("own", os.O_WRONLY | os.O_CREAT, 0o600)
os.write(fd, b"mine")
os.fchmod(fd, 0)
os.unlink("own")
ready()
os.fchmod(fd, 0o600)
assert open(f"/proc/self/fd/{{fd}}").read() == "mine"
sys.exit(0)"""
    job = python(pods, text).start()
    job.comes_back()
