#!/usr/bin/env bash
# 5 models x 4 ranks x 3 seeds on digits: one job breaks, the sweep is killed, resumed, reported.
#   experiments/first_sweep/run.sh FOLDER
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
export PYTHONPATH="$here:$here/../..:${PYTHONPATH:-}" OMP_NUM_THREADS=1
mkdir -p "$1" && cd "$1"
touch broken
python "$here/../../train.py" -m \
    model=nmf,convex_nmf,projective_nmf,autoencoder,deep_autoencoder model.n_components=4,8,12,16 \
    seed=0,1,2 split=rows max_iter=3000 +callbacks.fault._target_=faulty.Fault \
    launcher=joblib launcher.n_jobs=2 > first.txt 2> first.log & sweep=$!
until [[ "$(ls runs/*/*/metrics.json 2> /dev/null | wc -l)" -ge 20 ]]; do sleep 0.2; done
kill -9 "$sweep" && echo "killed with $(ls runs/*/*/metrics.json | wc -l) runs finished"
wait || true
sleep 3
echo "left running: $(grep -l '"running"' runs/sweeps/*/jobs/*.json | wc -l)"
python -m nmfnet.commands sweep resume runs/sweeps/* > second.txt 2> second.log && code=0 || code=$?
tail -n 3 second.txt | cut -c 1-150
echo "exit code $code; $(grep -c ': found' second.log) found, $(grep -c ': done' second.log) run"
python -m nmfnet.commands report runs -o report_broken.html
rm broken
python -m nmfnet.commands sweep resume runs/sweeps/* > third.txt 2> third.log && code=0 || code=$?
echo "mended, exit code $code; $(grep -c ': found' third.log) found, $(grep -c ': done' third.log) run"
python -m nmfnet.commands report runs -o report.html
