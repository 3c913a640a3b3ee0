#!/bin/sh
# hold.sh PIDFILE TEST ARGUMENT... - the command of a pod that runs a test of ZDTM.
#
# TEST returns when the process that it leaves behind is ready, whose pid is in PIDFILE. When the file "stop" appears, that process is
# told to check its state (SIGTERM). This ends when it has ended.
pidfile=$1
shift
"$@" || exit 90
read -r pid <"$pidfile" || [ -n "$pid" ] || exit 91
: >held
until [ -e stop ]; do sleep 0.05; done
kill -TERM "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
