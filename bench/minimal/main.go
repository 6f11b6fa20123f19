// Minimal is the least that a program which speaks vSphere's API links: client, session and methods. It prints its
// version, and how long that takes is the yardstick for labctl's start. With a URL it asks that server for the time,
// which is there so that the linker keeps the code; it fails if the server does not answer.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
)

func main() {
	if len(os.Args) > 1 {
		if err := ask(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "minimal:", err)
			os.Exit(1)
		}
		return
	}
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	fmt.Println("minimal", version)
}

func ask(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("reading the URL: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := vim25.NewClient(ctx, soap.NewClient(u, false))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	m := session.NewManager(c)
	if err := m.Login(ctx, u.User); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	now, err := methods.GetCurrentTime(ctx, c)
	if err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	fmt.Println(now)
	return m.Logout(ctx)
}
