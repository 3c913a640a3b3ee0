#!/bin/bash
# Logs each signal once per delivery; ends by itself with status 7 when it saw
# SIGUSR2, or when it was told to by a file named "stop".
for s in HUP INT USR1 TERM CONT WINCH; do trap "echo got $s" $s; done
trap 'echo got USR2; exit 7' USR2
echo ready
while [ ! -e stop ]; do
	sleep 0.1 &
	wait $!
done
echo stopped
