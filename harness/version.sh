#!/bin/sh
# Writes version.h when it is to change: version.sh OUTPUT VERSION SOURCE. (vcs_tag would start python at
# every build, which is most of what a launcher's build without changes takes.)
commit=$(git -C "$3" describe --always --dirty --abbrev=10 2>/dev/null || echo unknown)
cat >"$1.new" <<TEXT
/* Made by the build: the version, the commit it was built from, and where its sources are. */
#define KV_VERSION "$2"
#define KV_COMMIT "$commit"
#define KV_SOURCE "$3"
TEXT
if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
