package sys

// CrashEnv tells a process built with the tag ipccrash what to do at its crash
// points: "list" writes the name of each to standard error when it is first
// reached; "kill:<point>:<n>" and "stop:<point>:<n>" kill or stop the process when it is
// reached for the n-th time. Before it does it writes "crash at " or "stop at " and
// Monotonic() there, so that others can tell that the point was reached, and the
// survivor how long it took to learn of it.
const CrashEnv = "IPCGEN_CRASH"
