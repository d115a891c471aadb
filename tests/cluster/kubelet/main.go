// Command kubelet is the real kubelet, from the same module as the control plane. It is a program of its own because
// only the tests on a real node need it: nobody else has to wait for it to be built.
package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	os.Exit(cli.Run(app.NewKubeletCommand(context.Background())))
}
