#!/bin/sh
# check-plugins.sh MESON_BUILD - every function of ours that a plugin of Slurm calls is in the plugin. Slurm's own functions are in the
# program that loads it, so the linker cannot tell; the plugin would not be loaded.
set -eu
cd "$1"
ours=$(find . -name '*.a' -exec nm --defined-only --extern-only {} + 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u)
bad=0
for plugin in src/slurm/*.so; do
	missing=$(nm --undefined-only "$plugin" | awk '{ print $NF }' | sort -u | while read -r name; do
		printf '%s\n' "$ours" | grep -qxF -e "$name" && printf ' %s' "$name"
	done || :)
	if [ -n "$missing" ]; then
		echo "$plugin lacks$missing: add the source that has it to src/slurm/meson.build"
		bad=1
	fi
done
exit $bad
