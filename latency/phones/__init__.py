"""Android phones: reached by adb, timed by TFLite's own benchmark_model."""
