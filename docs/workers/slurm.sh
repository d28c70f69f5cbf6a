#!/bin/bash
# A study on a Slurm cluster: one search and any number of workers, one core each, that share a folder and a database.
#
#   sbatch --array=0-15 slurm.sh search_space.toml /shared/results/study
#
# The folder lies on a file system that all nodes see; it holds the weights. The tables are in PostgreSQL: SQLite on a
# network file system loses data. The password stands in ~/.pgpass (chmod 600): db.cluster:5432:codesign:me:PASSWORD
#SBATCH --job-name=codesign
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --signal=INT@60
#SBATCH --requeue
#SBATCH --output=codesign-%A-%a.log
set -euo pipefail
search_space=$1
folder=$2
storage=${CODESIGN_STORAGE:-postgresql+psycopg://me@db.cluster/codesign}

if [ "$SLURM_ARRAY_TASK_ID" = 0 ]; then
    srun codesign search "$search_space" --to "$folder" --storage "$storage"
else
    until [ -s "$folder/storage.json" ]; do sleep 5; done    # task 0 has made the study
    srun codesign worker "$folder"
fi
