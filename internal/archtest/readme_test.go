package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeProgram builds the Go program of the README, as it stands there,
// and runs it: it prints what its last line says.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	program, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md has no Go program")
	}
	_, said, _ := strings.Cut(program, "fmt.Println(m.SerializedOutput) // ")
	want, _, _ := strings.Cut(said, "\n")

	dir := t.TempDir()
	source, overlay, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "readme")
	place := filepath.Join(root, "internal", "readme", "main.go") // not on the disk: the overlay puts it there
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{place: source}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{source: []byte(program), overlay: replace} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./internal/readme")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the program of README.md does not build: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary)
	run.Dir = dir
	out, err := run.Output()
	if err != nil {
		t.Fatalf("the program of README.md: %v", err)
	}
	if got := strings.TrimSpace(string(out)); got != want || want == "" {
		t.Errorf("the program of README.md prints %s, want %s", got, want)
	}
}
