// Command app is what runs in the containers of the tests on a real node: a shop that is well, or unwell in the way
// that its environment asks for. It is the only file of its image.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const usage = `usage: app serve|pause|run

serve  listens on PORT (18080) and answers /health, /health/live, /health/ready and /version
       FAIL_READY, FAIL_LIVE, FAIL_HEALTH  answer 503 there from the start; POST /control?ready=200 changes it
       BODY                                what is answered besides the status
       START_AFTER_MS                      listens only that long after the start
       CRASH_AFTER_MS                      ends that long after the start, as run does
run    waits WAIT_MS, prints LINES to standard output (\n between them) and the variables that PRINT_ENV names, and ends with
       EXIT_CODE (0), its LAST_WORDS on standard error and in /dev/termination-log
pause  waits until it is told to end`

func main() {
	if len(os.Args) != 2 {
		refuse(usage)
	}
	switch os.Args[1] {
	case "serve":
		serve()
	case "run":
		run(0)
	case "pause":
		waitForEnd()
	default:
		refuse(usage)
	}
}

func refuse(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}

// run says what it is to say and ends.
func run(otherwise int) {
	time.Sleep(milliseconds("WAIT_MS"))
	if lines := os.Getenv("LINES"); lines != "" {
		fmt.Println(lines)
	}
	for _, name := range strings.Fields(os.Getenv("PRINT_ENV")) {
		fmt.Printf("%s=%s\n", name, os.Getenv(name))
	}
	if words := os.Getenv("LAST_WORDS"); words != "" {
		fmt.Fprintln(os.Stderr, words)
		// A container without that file has nobody who reads it.
		_ = os.WriteFile("/dev/termination-log", []byte(words), 0o644)
	}
	os.Exit(number("EXIT_CODE", otherwise))
}

// waitForEnd is a notified channel: without it the runtime would call this a deadlock.
func waitForEnd() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	<-told
}

// shop holds what is answered on each path.
type shop struct {
	health, live, ready atomic.Int64
}

func serve() {
	var shop shop
	shop.health.Store(status("FAIL_HEALTH"))
	shop.live.Store(status("FAIL_LIVE"))
	shop.ready.Store(status("FAIL_READY"))

	routes := http.NewServeMux()
	routes.HandleFunc("GET /health", answer(&shop.health))
	routes.HandleFunc("GET /health/live", answer(&shop.live))
	routes.HandleFunc("GET /health/ready", answer(&shop.ready))
	routes.HandleFunc("GET /version", func(out http.ResponseWriter, _ *http.Request) {
		io.WriteString(out, os.Getenv("VERSION"))
	})
	routes.HandleFunc("POST /control", shop.control)

	if after := milliseconds("CRASH_AFTER_MS"); after > 0 {
		time.AfterFunc(after, func() { run(1) })
	}
	time.Sleep(milliseconds("START_AFTER_MS"))
	go func() {
		address := ":" + strconv.Itoa(number("PORT", 18080))
		refuse(http.ListenAndServe(address, routes).Error())
	}()
	waitForEnd()
}

// control sets what is answered from now on: /control?ready=503&live=200.
func (shop *shop) control(out http.ResponseWriter, asked *http.Request) {
	paths := map[string]*atomic.Int64{"health": &shop.health, "live": &shop.live, "ready": &shop.ready}
	for name, values := range asked.URL.Query() {
		path, known := paths[name]
		status, err := strconv.Atoi(values[0])
		if !known || err != nil || status < 200 || status > 599 {
			http.Error(out, "what is "+name+"?", http.StatusBadRequest)
			return
		}
		path.Store(int64(status))
	}
}

func answer(status *atomic.Int64) http.HandlerFunc {
	return func(out http.ResponseWriter, _ *http.Request) {
		out.WriteHeader(int(status.Load()))
		io.WriteString(out, os.Getenv("BODY"))
	}
}

func status(variable string) int64 {
	if os.Getenv(variable) != "" {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

func milliseconds(variable string) time.Duration {
	return time.Duration(number(variable, 0)) * time.Millisecond
}

func number(variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		refuse(variable + " is no number: " + text)
	}
	return number
}
