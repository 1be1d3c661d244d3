// What a Go service does with x/crypto/ssh and the files of `writ fetch ssh`: verifies the gateway's host
// certificate by the host authority, logs in by its own certificate, by way of a jump and directly, runs
// commands, and is refused with another login. Prints one JSON document.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

type report struct {
	Direct   string   `json:"direct"`
	Jumped   string   `json:"jumped"`
	Status   int      `json:"status"`
	Echoed   int      `json:"echoed"`
	Refused  string   `json:"refused"`
	Forwards []string `json:"forwards"`
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: ssh FOLDER GATEWAY LOGIN TARGET")
		os.Exit(2)
	}
	out, err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

func run(folder, gateway, login, target string) (*report, error) {
	config, err := clientConfig(folder)
	if err != nil {
		return nil, err
	}
	var out report
	direct, err := ssh.Dial("tcp", gateway, as(config, login+"+"+target))
	if err != nil {
		return nil, fmt.Errorf("direct: %w", err)
	}
	defer direct.Close()
	if out.Direct, err = output(direct, "echo direct"); err != nil {
		return nil, err
	}
	if out.Status, err = status(direct, "exit 5"); err != nil {
		return nil, err
	}
	if out.Echoed, err = echo(direct, strings.Repeat("x", 1<<20)); err != nil {
		return nil, err
	}
	if _, err := direct.Listen("tcp", "127.0.0.1:0"); err == nil {
		out.Forwards = append(out.Forwards, "tcpip-forward")
	}
	if _, err := direct.Dial("tcp", gateway); err == nil {
		out.Forwards = append(out.Forwards, "direct-tcpip")
	}
	outer, err := ssh.Dial("tcp", gateway, as(config, "jump"))
	if err != nil {
		return nil, fmt.Errorf("outer: %w", err)
	}
	defer outer.Close()
	inner, err := through(outer, target, as(config, login))
	if err != nil {
		return nil, fmt.Errorf("inner: %w", err)
	}
	defer inner.Close()
	if out.Jumped, err = output(inner, "echo jumped"); err != nil {
		return nil, err
	}
	if _, err := ssh.Dial("tcp", gateway, as(config, "root+"+target)); err != nil {
		out.Refused = err.Error()
	}
	return &out, nil
}

func clientConfig(folder string) (*ssh.ClientConfig, error) {
	pem, err := os.ReadFile(filepath.Join(folder, "id_ed25519"))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, err
	}
	line, err := os.ReadFile(filepath.Join(folder, "id_ed25519-cert.pub"))
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewCertSigner(public.(*ssh.Certificate), key)
	if err != nil {
		return nil, err
	}
	hosts, err := knownhosts.New(filepath.Join(folder, "known_hosts"))
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   hosts,
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
		Timeout:           10 * time.Second,
	}, nil
}

func as(config *ssh.ClientConfig, user string) *ssh.ClientConfig {
	copied := *config
	copied.User = user
	return &copied
}

func through(outer *ssh.Client, target string, config *ssh.ClientConfig) (*ssh.Client, error) {
	address := net.JoinHostPort(target, "22")
	conn, err := outer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	inner, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(inner, channels, requests), nil
}

func output(client *ssh.Client, command string) (string, error) {
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	out, err := session.Output(command)
	return string(out), err
}

func status(client *ssh.Client, command string) (int, error) {
	session, err := client.NewSession()
	if err != nil {
		return 0, err
	}
	defer session.Close()
	err = session.Run(command)
	if exit, ok := err.(*ssh.ExitError); ok {
		return exit.ExitStatus(), nil
	}
	return 0, err
}

// echo sends text through cat on the target, and tells how many bytes came back as they were.
func echo(client *ssh.Client, text string) (int, error) {
	session, err := client.NewSession()
	if err != nil {
		return 0, err
	}
	defer session.Close()
	session.Stdin = strings.NewReader(text)
	stdout, err := session.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := session.Start("cat"); err != nil {
		return 0, err
	}
	back, err := io.ReadAll(stdout)
	if err != nil {
		return 0, err
	}
	if string(back) != text {
		return 0, fmt.Errorf("%d bytes came back changed", len(back))
	}
	return len(back), session.Wait()
}
