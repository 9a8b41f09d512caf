// Package ipctest lets tests talk over ipc connections that need no sockets, no
// mapped memory and no other process, and lets them break those connections on
// purpose.
package ipctest
