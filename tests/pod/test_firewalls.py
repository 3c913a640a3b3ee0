"""PodNetwork = private on nodes with a firewall: what docs/admin.md says of each lets jobs through, and doctor's check tells of it.

The rules are those that the programs make with nf_tables (iptables-nft for Docker); only what decides is here."""
import subprocess

import lib
import pytest

from test_network import NODE, WORLD, Pod, node, private, world  # noqa: F401  (fixtures)
from test_pod import base, pods  # noqa: F401  (fixtures)

ASK = "import socket,sys\ntry: print(socket.create_connection((sys.argv[1],int(sys.argv[2])),2).recv(99).decode())\nexcept OSError as e: print('no',e)\n"
HELLO = "import socket,sys\ns=socket.create_server((sys.argv[1],7001))\nprint('up',flush=True)\nwhile 1:\n c,a=s.accept();c.send(a[0].encode());c.close()\n"

# Docker 20 to 29. Recipe: iptables -I DOCKER-USER -i fsched+ -j ACCEPT; iptables -I DOCKER-USER -o fsched+ -m conntrack --ctstate ...
DOCKER = """table ip filter {
 chain DOCKER-USER { return; }
 chain DOCKER-FORWARD { iifname "docker0" accept; }
 chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; jump DOCKER-FORWARD; }
}"""
DOCKER_RECIPE = """insert rule ip filter DOCKER-USER iifname "fsched*" accept
insert rule ip filter DOCKER-USER oifname "fsched*" ct state { related, established } accept"""
# firewalld with the default zone public, which forwards nothing (before 1.0, or --remove-forward).
# Recipe: firewall-cmd --zone=trusted --add-interface=fsched+
FIREWALLD = """table inet firewalld {
 chain filter_IN_public { tcp dport 22 ct state { new, untracked } accept; reject with icmpx admin-prohibited; }
 chain filter_FWD_public { reject with icmpx admin-prohibited; }
 chain filter_IN_trusted { accept; }
 chain filter_FWD_trusted { accept; }
 chain filter_INPUT_ZONES { iifname "uplink" goto filter_IN_public; goto filter_IN_public; }
 chain filter_FORWARD_ZONES { iifname "uplink" goto filter_FWD_public; goto filter_FWD_public; }
 chain filter_INPUT { type filter hook input priority 10; policy accept; ct state { established, related } accept; ct status dnat accept;
  iifname "lo" accept; ct state invalid drop; jump filter_INPUT_ZONES; reject with icmpx admin-prohibited; }
 chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state { established, related } accept; ct status dnat accept;
  iifname "lo" accept; ct state invalid drop; jump filter_FORWARD_ZONES; reject with icmpx admin-prohibited; }
}"""
FIREWALLD_RECIPE = """insert rule inet firewalld filter_INPUT_ZONES iifname "fsched*" goto filter_IN_trusted
insert rule inet firewalld filter_FORWARD_ZONES iifname "fsched*" goto filter_FWD_trusted"""
# A host firewall as in nftables.conf(5) of distributions.
NFTABLES = """table inet filter {
 chain input { type filter hook input priority 0; policy drop; ct state { established, related } accept; iifname "lo" accept; tcp dport 22 accept; }
 chain forward { type filter hook forward priority 0; policy drop; }
}"""
NFTABLES_RECIPE = """add rule inet filter input iifname "fsched*" accept
add rule inet filter forward iifname "fsched*" accept
add rule inet filter forward oifname "fsched*" ct state established,related accept"""
TABLES = {"docker": "ip filter", "firewalld": "inet firewalld", "nftables": "inet filter"}


def nft(node, text):
    subprocess.run([*node.enter, "nft", "-f", "-"], input=text + "\n", text=True, check=True)


def check(base, node):
    """What doctor asks for."""
    return subprocess.run([*node.enter, base / "stage/usr/libexec/fsched/fsched-net", "check", "198.18.224.0/20"],
                          capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name, rules, recipe", [("docker", DOCKER, DOCKER_RECIPE), ("firewalld", FIREWALLD, FIREWALLD_RECIPE),
                                                 ("nftables", NFTABLES, NFTABLES_RECIPE)], ids=["docker", "firewalld", "nftables"])
def test_firewall(pods, base, node, world, private, name, rules, recipe):
    def asks(address):
        return job.inside("/usr/bin/python3", "-c", ASK, address, 7001).strip()

    servers = [subprocess.Popen([*who.enter, "/usr/bin/python3", "-c", HELLO, address], stdout=subprocess.PIPE)
               for who, address in ((world, WORLD), (node, NODE))]
    try:
        for s in servers:
            assert s.stdout.readline() == b"up\n"
        assert check(base, node) == "ok\n"
        nft(node, rules)
        said = check(base, node)
        assert said.startswith("warning the node's firewall drops what is forwarded") and said.endswith("ok\n"), said
        job = Pod(pods, base, node, private, "/bin/sleep", "1000")
        assert asks(WORLD).startswith("no")
        nft(node, recipe)
        assert check(base, node) == "ok\n"
        assert asks(WORLD) == NODE
        assert asks(NODE).startswith("198.18.")
        job.kill()
        nft(node, f"delete table {TABLES[name]}")
    finally:
        for s in servers:
            s.kill()
            s.wait()
            s.stdout.close()
    lib.wait_for(lambda: not node.rules(), "the rules to go", 20)


def test_a_node_with_ipv6_only(base, node):
    node.ok("ip", "address", "add", "fd99::1/64", "dev", "uplink", "nodad")
    node.ok("ip", "route", "add", "default", "via", "fd99::2")
    assert check(base, node) == "ok\n"
    node.ok("ip", "route", "del", "default", "via", WORLD)
    assert check(base, node).splitlines()[0].startswith("warning the node has a default route for IPv6 and none for IPv4")
