// Command leash turns itself into another program that cannot outlive the process that started it:
//
//	leash COMMAND [ARGUMENTS]
//
// The process id stays the same, so the starter can wait for and signal the command as if it had
// started it directly. LEASH_PARENT, when set, is the process id of the starter: it closes the gap
// between the fork and the moment the leash is on.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

const parentVariable = "LEASH_PARENT"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: leash COMMAND [ARGUMENTS]")
		os.Exit(2)
	}
	parent := os.Getppid()
	if announced, err := strconv.Atoi(os.Getenv(parentVariable)); err == nil {
		parent = announced
	}
	os.Unsetenv(parentVariable)

	if err := tie(); err != nil {
		fatal(err)
	}
	// A parent that died before the leash was on will never pull it.
	if os.Getppid() != parent {
		os.Exit(1)
	}
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		fatal(err)
	}
	fatal(syscall.Exec(path, os.Args[1:], os.Environ()))
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "leash:", err)
	os.Exit(1)
}
