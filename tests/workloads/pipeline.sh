#!/bin/bash
# A pipeline that lives as long as the job: producer | filter | sink. No pauses once there is a file "hurry". Exit status 6.
set -o pipefail
for ((i = 0; i < $1; i++)); do
	echo "item $i"
	[ -e hurry ] || sleep "${2:-0.1}"
done | sed -u "s/item/out of the filter/" | while read -r n; do
	echo "out $n"
done | tee pipeline.log
exit 6
