package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite docs/cli.md")

const cliHead = `# The command line

This page is made from the commands themselves: ` + "`go test ./cmd/perdure -run TestDocs -update`" + `.

Commands talk to a server (` + "`--server`" + `, or PERDURE_SERVER), or to a database directly (` + "`--db`" + `). Those that
change nothing read a database while a server owns it. Those that change something take
it over for the time of the command, and are refused while a server owns it; what they ask for
happens when a server or a worker next runs the instance.

What changes many instances, or destroys, shows what it would do and does it only with ` + "`--yes`" + `.

` + "`perdure completion bash|zsh|fish|powershell`" + ` prints the completions for a shell.

## Exit codes

| code | means |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | the command line, or a value in it, is wrong; nothing was changed |
| 3 | no such instance, or no such task hub |
| 4 | refused: the instance is not in the state for it, the id is taken, the server knows you not, or ` + "`--yes`" + ` is missing |
| 5 | no server answers |
| 6 | the time was up |
| 7 | the instance that was waited for did not complete: it failed or was terminated |
| 130 | interrupted |

Where several instances were named, the code is that of the first that failed, and the rest was still done.
`

// TestDocs keeps docs/cli.md true.
func TestDocs(t *testing.T) {
	t.Setenv("PERDURE_SERVER", "")
	var b strings.Builder
	b.WriteString(cliHead)
	root := newRoot()
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				document(&b, c)
			}
		}
	}
	page := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("docs/cli.md is not what the commands say (%v); run this test with -update", err)
	}
}

func document(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n### perdure %s\n\n%s\n", strings.TrimPrefix(c.CommandPath(), "perdure "), firstSet(c.Long, c.Short+"."))
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			document(b, sub)
		}
	}
	if !c.Runnable() {
		return
	}
	fmt.Fprintf(b, "\n    %s\n", c.UseLine())
	if c.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	if usages := c.LocalFlags().FlagUsages(); usages != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", usages)
	}
}

func firstSet(a, b string) string {
	if a != "" {
		return strings.TrimSpace(a)
	}
	return b
}
