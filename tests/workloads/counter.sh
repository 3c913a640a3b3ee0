#!/bin/bash
# counter.sh STEPS [PAUSE]: a line per step to stdout and, through a file that is
# opened and closed each time, to counter.log. No pauses once there is a file "hurry". Exit status 4.
for ((i = 0; i < $1; i++)); do
	echo "step $i"
	echo "line $i" >>counter.log
	[ -e hurry ] || sleep "${2:-0.1}"
done
echo done
exit 4
