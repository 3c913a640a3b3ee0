#!/bin/bash
#SBATCH --job-name=heat
#SBATCH --ntasks=1
#SBATCH --output=%x-%j.out
#
# A batch script as anyone writes it; nothing in it knows of checkpoints.
#
#   sbatch --checkpoint=30:00 heat.sh [STEPS [FOLDER]]
#
# The option may also be a line of the script: #SBATCH --checkpoint=30:00
# STEPS lines of output; FOLDER gets the state and the result. heat2d is
# expected in the folder where sbatch was called.
set -eu
steps=${1:-600}
folder=${2:-.}

mkdir -p "$folder"
echo "heat: $steps steps on a 512 x 512 plate"
./heat2d "$steps" 512 "$folder/heat.state" "$folder/heat.result"
echo "heat: done: $(head -n 1 "$folder/heat.result")"
