#!/bin/sh
# Prints the output of benchmark_model without running a model. The median in microseconds is the size of the model's
# file in bytes, so that every row of a table can be checked. If faults/benchmark exists, it runs first; it may change
# variables or exit.
for argument in "$@"; do
  case $argument in --graph=*) graph=${argument#--graph=} ;; esac
done
echo "$*" >> runs.log
us=$(wc -c < "$graph")
said="INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate."
[ -f faults/benchmark ] && . faults/benchmark
cat <<END
INFO: STARTING!
INFO: Tensorflow Version : 2.15.0
INFO: Log parameter values verbosely: [0]
INFO: Graph: [$graph]
INFO: Loaded model $graph
$said
INFO: The input model file size (MB): 0.497264
INFO: Initialized session in 66.002ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=637079

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=$((us + 9)) curr=$us min=$((us - 1)) max=$((us + 9)) avg=$us.5 std=3 p5=$us median=$us p95=$((us + 9))

INFO: Inference timings in us: Init: 66002, First inference: 637079, Warmup (avg): 637079, Inference (avg): $us.5
INFO: Memory footprint delta from the start of the tool (MB): init=7.40234 overall=7.83203
END
