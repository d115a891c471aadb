package main

import (
	"runtime"
	"syscall"
)

// tie asks the kernel to kill this process when the thread that started it ends. The request
// belongs to a thread and survives exec, so the thread that asks must be the one that execs.
func tie() error {
	runtime.LockOSThread()
	_, _, failure := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if failure != 0 {
		return failure
	}
	return nil
}
