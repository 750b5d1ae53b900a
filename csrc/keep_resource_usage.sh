#!/bin/sh
# CMake's launcher of nvcc: runs the command ("$@", which has --resource-usage) and keeps what ptxas says about registers, spills
# and shared memory beside the object, in <object>.resources; benchmarks/kernel_resources.py reads it. Other output is passed on.
object=
previous=
for word; do
  [ "$previous" = -o ] && object=$word
  previous=$word
done
"$@" >"$object.resources" 2>&1
code=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' "$object.resources" >&2
exit $code
