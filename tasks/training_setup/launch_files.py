"""What starts the other machines of a plan, beside the plan: torchrun, ssh, Slurm and Kubernetes.

The first machine runs the stage as ever (``heptune run``, ``dvc repro``), which waits for the others; each of these
runs ``torchrun.sh`` with its number in a checkout of the same commit, with the same data, base and plan, and the same
folder of checkpoints. Schedulers say where the first machine is in ``MASTER_ADDR``.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from tasks.contracts.manifest import write_bytes, write_json
from tasks.training.distribution.machines import Machines

if TYPE_CHECKING:
    from tasks.training.plan import Plan

FOLDER = "launch"
DEEPSPEED = "deepspeed.json"
RUN_ID = "heptune"

TORCHRUN = """\
#!/bin/sh
# Starts the ranks of one machine but the first: sh models/plan/launch/torchrun.sh NUMBER, with NUMBER from 1 to $last.
# The first machine runs `heptune run` or `dvc repro`, which waits for them for $timeout_s seconds.
cd "$$(dirname "$$0")/../../.." || exit 1
export OMP_NUM_THREADS=$threads
exec python -m torch.distributed.run --nnodes $nodes --nproc-per-node $processes --node-rank "$$1" \\
    --master-addr "$${MASTER_ADDR:-$host}" --master-port "$${MASTER_PORT:-$port}" \\
    --rdzv-id $run_id --rdzv-conf timeout=$timeout_s --max-restarts 0 -m flows.fine_tuning
"""

HOSTS = """\
#!/bin/sh
# Runs torchrun.sh over ssh on the machines of the hostfile but the first, each in this folder, and waits for them; ends
# with an error where one did. Keys have to be in place: no password is asked for.
cd "$$(dirname "$$0")/../../.." || exit 1
number=0 started="" status=0
for host in $$(awk 'NR > 1 {print $$1}' models/plan/launch/hostfile); do
    number=$$((number + 1))
    ssh -n -o BatchMode=yes "$$host" "cd '$$PWD' && PATH='$$PATH' sh models/plan/launch/torchrun.sh $$number" &
    started="$$started $$!"
done
for process in $$started; do wait "$$process" || status=$$?; done
exit "$$status"
"""

# Since version 22.05 srun takes no --cpus-per-task from sbatch, and would run all ranks on one core.
SLURM = """\
#!/bin/bash
# sbatch models/plan/launch/slurm.sh, from the checkout, on a file system that all machines share.
#SBATCH --job-name=heptune
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=$cores
${gpus_per_node}MASTER_ADDR=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$port
srun --cpus-per-task=$cores --kill-on-bad-exit=1 bash -c '
if [ "$$SLURM_NODEID" = 0 ]; then exec heptune run --single-item fine_tuning
else exec sh models/plan/launch/torchrun.sh "$$SLURM_NODEID"; fi'
"""

# The first process of a container gets the signal that asks it to leave, and the kernel drops it where it is not
# handled: heptune and torchrun pass it on, DVC does not. The ranks of a machine meet in /dev/shm, which a container has
# 64 MiB of.
KUBERNETES = """\
# kubectl apply -f models/plan/launch/kubernetes.yaml; before the next run: kubectl delete -f the same file.
# The image and the volume claim heptune are those of infra/kubernetes; the claim holds the checkout, and has to be
# ReadWriteMany, since all pods share it.
apiVersion: v1
kind: Service
metadata: {name: heptune-training}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {job-name: heptune-training}
---
apiVersion: batch/v1
kind: Job
metadata: {name: heptune-training}
spec:
  completionMode: Indexed
  completions: $nodes
  parallelism: $nodes
  backoffLimit: 0
  template:
    spec:
      subdomain: heptune-training
      restartPolicy: Never
      securityContext: $user
      containers:
        - name: machine
          image: heptune
          workingDir: /work
          envFrom: [{configMapRef: {name: heptune-servers, optional: true}}]
          env:
            - {name: MASTER_ADDR, value: heptune-training-0.heptune-training}
            - {name: MASTER_PORT, value: "$port"}
            - {name: HOME, value: /tmp}
            - {name: PYTHONPATH, value: /work}
          command:
            - sh
            - -c
            - >-
              if [ "$$JOB_COMPLETION_INDEX" = 0 ]; then exec heptune run --single-item fine_tuning;
              else exec sh models/plan/launch/torchrun.sh "$$JOB_COMPLETION_INDEX"; fi
          resources: {limits: {$resources}}
          securityContext: $container
          volumeMounts: [{name: checkout, mountPath: /work}, {name: shared-memory, mountPath: /dev/shm}]
      volumes:
        - {name: checkout, persistentVolumeClaim: {claimName: heptune}}
        - {name: shared-memory, emptyDir: {medium: Memory}}
"""

KUBEFLOW = """\
# kubectl apply -f models/plan/launch/kubeflow.yaml, with Kubeflow Trainer from 2.2 and its runtime torch-distributed;
# before the next run: kubectl delete -f the same file.
# The image and the volume claim heptune are those of infra/kubernetes; the claim holds the checkout, and has to be
# ReadWriteMany, since all pods share it.
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: heptune-training}
spec:
  runtimeRef: {name: torch-distributed}
  trainer:
    image: heptune
    numNodes: $nodes
    env:
      - {name: HOME, value: /tmp}
      - {name: PYTHONPATH, value: /work}
    command:
      - sh
      - -c
      - >-
        cd /work; export MASTER_ADDR="$$PET_MASTER_ADDR" MASTER_PORT="$$PET_MASTER_PORT";
        if [ "$$PET_NODE_RANK" = 0 ]; then exec heptune run --single-item fine_tuning;
        else exec sh models/plan/launch/torchrun.sh "$$PET_NODE_RANK"; fi
    resourcesPerNode: {limits: {$resources}}
  runtimePatches:
    - manager: heptune
      trainingRuntimeSpec:
        template:
          spec:
            replicatedJobs:
              - name: node
                template:
                  spec:
                    template:
                      spec:
                        securityContext: $user
                        containers:
                          - name: node
                            volumeMounts:
                              - {name: checkout, mountPath: /work}
                              - {name: shared-memory, mountPath: /dev/shm}
                        volumes:
                          - {name: checkout, persistentVolumeClaim: {claimName: heptune}}
                          - {name: shared-memory, emptyDir: {medium: Memory}}
"""

# As in infra/kubernetes.
USER = "{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}"
CONTAINER = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"


def write_launch_files(plan: Plan, folder: Path) -> list[Path]:
    """Write what DeepSpeed gets, and what starts the other machines; nothing where there is neither.

    Args:
        plan: The plan.
        folder: ``models/plan``.

    Returns:
        The files.
    """
    written = []
    config = getattr(plan.distribution, "config", None)
    if config is not None:
        write_json(folder / DEEPSPEED, config)
        written.append(folder / DEEPSPEED)
    if isinstance(plan.distribution, Machines) and plan.distribution.nodes > 1:
        for name, text in _texts(plan, plan.distribution).items():
            write_bytes(folder / FOLDER / name, text.encode())
            written.append(folder / FOLDER / name)
    return written


def _texts(plan: Plan, machines: Machines) -> dict[str, str]:
    """Name of a file to its text."""
    processes = plan.world_size // machines.nodes
    host, _, port = (machines.rendezvous or "").rpartition(":")
    cores = plan.threads * processes
    values = {
        "nodes": machines.nodes,
        "last": machines.nodes - 1,
        "processes": processes,
        "threads": plan.threads,
        "cores": cores,
        "host": host,
        "port": port,
        "timeout_s": machines.timeout_s,
        "run_id": RUN_ID,
        "user": USER,
        "container": CONTAINER,
        "gpus_per_node": f"#SBATCH --gpus-per-node={processes}\n" if plan.device == "cuda" else "",
        "resources": f"nvidia.com/gpu: {processes}" if plan.device == "cuda" else f"cpu: {cores}",
    }
    templates = {
        "torchrun.sh": TORCHRUN,
        "slurm.sh": SLURM,
        "kubernetes.yaml": KUBERNETES,
        "kubeflow.yaml": KUBEFLOW,
        **({"ssh.sh": HOSTS} if machines.hosts else {}),
    }
    texts = {name: Template(template).substitute(values) for name, template in templates.items()}
    if machines.hosts:
        texts["hostfile"] = "".join(f"{name} slots={processes}\n" for name in machines.hosts)
    return texts
