"""MPI programs that people run, as Debian packages them: in jobs of one node under srun and mpirun, saved, vacated and restored at random
moments; their results are those of an undisturbed job without --checkpoint, byte for byte. FSCHED_SEED repeats the moments."""
import os
import random
import shutil
import textwrap
from pathlib import Path

import pytest

import lib
from failures import FAST, FSCHED, LONG, pass_time, wait_restored

SEED = int(os.environ.get("FSCHED_SEED", os.getpid()))
CYCLES = int(os.environ.get("FSCHED_CYCLES", "3"))
LAUNCHERS = {"srun": "srun --mpi=pmix", "mpirun": "mpirun.openmpi -np 2"}

LAMMPS = """
    units lj
    atom_style atomic
    lattice fcc 0.8442
    region box block 0 10 0 10 0 10
    create_box 1 box
    create_atoms 1 box
    mass 1 1.0
    velocity all create 3.0 87287 loop geom
    pair_style lj/cut 2.5
    pair_coeff 1 1 1.0 1.0 2.5
    neighbor 0.3 bin
    neigh_modify every 20 delay 0 check no
    fix 1 all nve
    thermo 100
    dump d all custom 200 result.dump id x y z vx vy vz
    dump_modify d sort id format float %.16g
    run STEPS
"""
# A hydrogen potential is made by the package itself, which brings none.
ESPRESSO = """
    ld1.x > ld1.out 2>&1 <<X
    &input
     title='H', zed=1., rel=0, config='1s1', iswitch=3, dft='PZ'
    /
    &inputp
     lloc=0, pseudotype=1, file_pseudopw='H.UPF', author='test', tm=.true.
    /
    1
    1S 1 0 1.00 0.00 1.20 1.20
    X
    cat > in.pw <<X
    &control
     calculation='md', pseudo_dir='.', outdir='./tmp', prefix='h', nstep=STEPS, dt=10.0, disk_io='none'
    /
    &system
     ibrav=1, celldm(1)=9.0, nat=4, ntyp=1, ecutwfc=30.0, nbnd=6
    /
    &electrons
     conv_thr=1e-9
    /
    &ions
    /
    ATOMIC_SPECIES
    H 1.0 H.UPF
    ATOMIC_POSITIONS bohr
    H 0.0 0.0 0.0
    H 1.5 0.0 0.0
    H 4.0 4.0 4.0
    H 5.3 4.2 4.1
    K_POINTS gamma
    X
"""
GROMACS = """
    gmx -quiet solvate -cs spc216.gro -box 2.4 2.4 2.4 -o in.gro > prepare.log 2>&1
    printf '#include "oplsaa.ff/forcefield.itp"\\n#include "oplsaa.ff/spce.itp"\\n[ system ]\\nwater\\n[ molecules ]\\nSOL %d\\n' \\
        $(grep -c OW in.gro) > topol.top
    cat > md.mdp <<X
    integrator=md
    nsteps=STEPS
    dt=0.002
    nstxout=100
    nstvout=100
    coulombtype=PME
    rcoulomb=0.9
    rvdw=0.9
    tcoupl=v-rescale
    tc-grps=System
    tau-t=0.5
    ref-t=300
    gen-vel=yes
    gen-seed=7
    ld-seed=7
    constraints=h-bonds
    X
    gmx -quiet grompp -f md.mdp -c in.gro -p topol.top -o in.tpr -maxwarn 5 >> prepare.log 2>&1
"""
MPI4PY = """
    from mpi4py import MPI
    import hashlib, pickle, sys, threading
    c = MPI.COMM_WORLD
    assert MPI.Query_thread() == MPI.THREAD_MULTIPLE
    h = hashlib.md5()
    other = c.Dup()
    def talk():
        for i in range(STEPS):
            assert other.sendrecv(i, dest=(c.rank + 1) % c.size, source=(c.rank - 1) % c.size) == i
    t = threading.Thread(target=talk)
    t.start()
    for i in range(STEPS):
        o = c.sendrecv({"from": c.rank, "x": [i * c.rank] * (i % 5000)}, dest=(c.rank + 1) % c.size, source=(c.rank - 1) % c.size)
        h.update(pickle.dumps((o, c.allreduce(i * (c.rank + 1)), c.bcast(c.gather((c.rank, i), root=0), root=0))))
        if c.rank == 0 and i % 50 == 0:
            print(i, flush=True)
    t.join()
    digests = c.gather(h.hexdigest(), root=0)
    if c.rank == 0:
        open("result", "w").write(str(digests))
"""

# name: (steps, files of the job, lines before the program, the program, its results: see results())
CODES = {
    "lammps": (1500, {"in.lj": LAMMPS}, "", "lmp -in in.lj -log none -echo none", "result.dump"),
    "espresso": (8, {}, ESPRESSO, "pw.x -in in.pw", "lines 'total energy|Ekin|^H '"),
    "gromacs": (1500, {}, GROMACS, "gmx_mpi mdrun -s in.tpr -deffnm result -reprod -notunepme -dlb no -ntomp 1 -pin off", "result.gro result.trr"),
    "hpcc": (800, {}, "", "hpcc", "residuals"),
    "mpi4py": (3000, {"a.py": MPI4PY}, "", "/usr/bin/python3 a.py", "result"),
}


def prepare(d, name, steps):
    for f, text in CODES[name][1].items():
        (d / f).write_text(textwrap.dedent(text).replace("STEPS", str(steps)))
    if name == "hpcc":
        text = os.popen("zcat -f /usr/share/doc/hpcc/examples/_hpccinf.txt*").read()
        (d / "hpccinf.txt").write_text(text.replace("1000         Ns", f"{steps}         Ns").replace("2            Ps", "1            Ps"))


def script(name, launcher, steps):
    # A rank that waits must leave the processor to the others: there are fewer than ranks here.
    return ("export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1\n" +
            textwrap.dedent(CODES[name][2]).replace("STEPS", str(steps)) +
            f"echo begun > begun\n{LAUNCHERS[launcher]} {CODES[name][3]} > said 2>&1\necho $?\n")


def results(d, name):
    """What must be the same: the bytes of result files, or the lines that hold results."""
    what = CODES[name][4]
    if what == "residuals":
        text = (d / "hpccoutf.txt").read_text()
        return [line.split("=")[0] + line.split("=")[-1] if "Ax-b" in line else line for line in text.splitlines()
                if line.startswith("||Ax-b") or "FAILED" in line or "Success" in line or "Errors=" in line]
    if what.startswith("lines "):
        words = what.split("'")[1].split("|")
        found = [x for x in (d / "said").read_text().splitlines() if any(x.startswith(w[1:]) if w[0] == "^" else w in x for w in words)]
        assert len(found) > 10, (d / "said").read_text()[-2000:]
        return found
    return [(d / f).read_bytes() for f in what.split()]


def submit(c, d, name, launcher, steps, *options):
    prepare(d, name, steps)
    return c.sbatch(script(name, launcher, steps), "-n", "2", "-o", "out", *options, cwd=d)


def ended_well(c, d, job):
    said = (d / "said").read_text(errors="replace")[-2000:] if (d / "said").exists() else ""
    assert c.wait_end(job, LONG * 2) == ("COMPLETED", "0:0"), said
    assert (d / "out").read_text() == "0\n", said + (d / "out").read_text()


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("name", CODES)
def test_results_are_those_of_an_undisturbed_run(cluster, jobdir, name, launcher, record_property):
    c, steps = cluster, CODES[name][0]
    if name == "gromacs" and "rdtscp" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("Debian's GROMACS does not run on this processor: it has no rdtscp")
    ref, d = jobdir("undisturbed"), jobdir()
    # Without --checkpoint: Slurm's srun.
    ended_well(c, ref, submit(c, ref, name, launcher, steps))
    job = submit(c, d, name, launcher, steps, "--checkpoint=UNLIMITED")
    c.wait_running(job)
    lib.wait_for((d / "begun").exists, "the program")
    moments, done = random.Random(f"{SEED}{name}{launcher}"), 0
    for _ in range(CYCLES):
        pass_time(moments.uniform(0.3, 2.5), "a random moment")
        p = c.run("scontrol", "checkpoint", "vacate" if moments.random() < 0.7 else "create", job)
        if "has ended" in p.stdout + p.stderr or c.state(job) == "COMPLETED":
            break
        assert p.returncode == 0, p.stdout + p.stderr
        done += 1
        if c.entry(job)["state"] == "vacated":
            c.ok("scontrol", "checkpoint", "restart", job, timeout=LONG)
    ended_well(c, d, job)
    assert results(d, name) == results(ref, name)
    assert done, "the program was too fast to be saved once"
    record_property("say", f"{name} under {launcher}: {done} checkpoints, FSCHED_SEED={SEED}")


def test_two_jobs_on_one_node_after_a_power_failure(new_cluster, jobdir):
    """The job of the node that fails continues on the node of the other: ports, names in /dev/shm and addresses do not clash."""
    c = new_cluster(FSCHED, hosts=2, slurm_conf=FAST)
    ref, dirs, jobs = jobdir("undisturbed"), [jobdir("n1"), jobdir("n2")], []
    steps = 3 * CODES["lammps"][0]
    ended_well(c, ref, submit(c, ref, "lammps", "srun", steps, "-w", "n2"))
    for node, launcher, d in zip(("n1", "n2"), ("srun", "mpirun"), dirs):
        c.ok("scontrol", "update", f"nodename={'n2' if node == 'n1' else 'n1'}", "state=drain", "reason=test", user="root")
        jobs.append(submit(c, d, "lammps", launcher, steps, "--checkpoint=UNLIMITED"))
        c.wait_running(jobs[-1])
        c.ok("scontrol", "update", f"nodename={'n2' if node == 'n1' else 'n1'}", "state=resume", user="root")
    for d, job in zip(dirs, jobs):
        lib.wait_for(lambda d=d: (d / "result.dump").exists() and (d / "result.dump").stat().st_size, "output", LONG)
        c.checkpoint("create", job)
    c.kill_node("n1")
    wait_restored(c, jobs[0], LONG * 2)
    for d, job in zip(dirs, jobs):
        ended_well(c, d, job)
        assert results(d, "lammps") == results(ref, "lammps")
    assert c.job(jobs[0])["BatchHost"] == "n2"


def test_the_packages_are_there():
    for program in ("lmp", "pw.x", "gmx_mpi", "hpcc", "mpirun.openmpi"):
        assert shutil.which(program), f"{program} is missing: make test-mpi installs it"
