// Package watch notices that the files of a folder changed. It looks at them now and then: what a system tells of changes
// does not reach folders that other machines write to, nor mounts that are swapped as a whole.
package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Every is how often a folder is looked at.
const Every = 500 * time.Millisecond

// maxDepth bounds folders that lead back into themselves.
const maxDepth = 16

// Folder calls changed with each state of the folder that is another one than before and stays the same from one look to
// the next, the first one too, until ctx ends. A state is told by the names, sizes and times of the files; links are
// followed, hidden files are not looked at. changed returns false for a state that it wants to see again.
func Folder(ctx context.Context, folder fs.FS, every time.Duration, changed func(state string) bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	told, before := "", State(folder)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := State(folder)
		if now == before && now != told && changed(now) {
			told = now
		}
		before = now
	}
}

// State is that of a folder now.
func State(folder fs.FS) string {
	sum := sha256.New()
	list(sum, folder, ".", 0)
	return hex.EncodeToString(sum.Sum(nil))
}

func list(w io.Writer, folder fs.FS, dir string, depth int) {
	entries, err := fs.ReadDir(folder, dir)
	if err != nil {
		fmt.Fprintln(w, dir, "?", err)
	}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || depth > maxDepth {
			continue
		}
		info, err := fs.Stat(folder, name)
		switch {
		case err != nil:
			fmt.Fprintf(w, "%q ?\n", name)
		case info.IsDir():
			fmt.Fprintf(w, "%q/\n", name)
			list(w, folder, name, depth+1)
		default:
			fmt.Fprintf(w, "%q %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
}
