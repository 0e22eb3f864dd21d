#!/bin/sh
# Prints the output of LiteRT's benchmark_model without running a model; its flags are --use_cpu, --use_gpu, --use_npu,
# --dispatch_library_path, --compiler_plugin_library_path and others. The mean in hundredths of a millisecond is the
# size of the model's file in bytes. If faults/benchmark exists, it runs first; it may change variables or exit.
for argument in "$@"; do
  case $argument in
    --graph=*) graph=${argument#--graph=} ;;
    --use_cpu=true) delegate=TfLiteXNNPackDelegate ;;
    --use_gpu=true) delegate=LITERT_CL ;;
    --use_npu=true) delegate=DispatchDelegate ;;
    --use_xnnpack=*|--enable_op_profiling=*|--use_nnapi=*) echo "WARN: Unconsumed cmdline flags: $argument" ;;
  esac
done
echo "$*" >> runs.log
echo "$LD_LIBRARY_PATH" >> libraries.log
size=$(wc -c < "$graph")
said="VERBOSE: Replacing 3 out of 3 node(s) with delegate ($delegate) node, yielding 1 partitions for subgraph 0 (main)."
ms() { printf "%d.%02d" $(($1 / 100)) $(($1 % 100)); }
time=$(ms $size)
[ -f faults/benchmark ] && . faults/benchmark
cat <<END
INFO: [benchmark_litert_model.cc:181] Loading model from: $graph
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
$said
INFO: [benchmark_litert_model.h:75]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:92] Signature name:
INFO: [benchmark_litert_model.h:94] Model initialization: 54.73 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       $time ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         $time ms (1 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      $time ms (50 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      $time ms
INFO: [benchmark_litert_model.h:106] Inference (max):      $time ms
INFO: [benchmark_litert_model.h:108] Inference (std):      9.92
INFO: [benchmark_litert_model.h:115] Throughput:           27.46 MB/s
END
