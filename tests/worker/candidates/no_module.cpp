// A shared library without PyInit_no_module.
int answer() { return 42; }
