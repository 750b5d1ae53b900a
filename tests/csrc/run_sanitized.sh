#!/usr/bin/env bash
# Runs the emulator's tests (all CUDA kernels) under AddressSanitizer and UBSan. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CIPS3D_SANITIZE=address,undefined
# Python itself is not instrumented: the runtimes must come first, and its own leaks are not ours
export LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
exec "${PYTHON:-python}" -m pytest tests/csrc/test_emulat*.py "$@"
