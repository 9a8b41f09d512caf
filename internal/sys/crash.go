package sys

// CrashEnv names the environment variable that tells a process built with the tag ipccrash what to
// do at its crash points. "list" writes the name of each crash point to standard error when it is
// reached for the first time. "kill:<point>:<n>" and "stop:<point>:<n>" kill or stop the process
// when the point is reached for the n-th time. Before that, the process writes "crash at " or "stop
// at " and Monotonic() to standard error, so that others can tell that the point was reached, and
// how long a survivor took to notice.
const CrashEnv = "IPCGEN_CRASH"
