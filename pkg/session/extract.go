package session

import (
	"fmt"
	"strings"

	"spillway/pkg/job"
)

// excerptBytes is how much of each side of a turn is extracted at most.
const excerptBytes = 240

// Extract is the summary that needs no model: the beginning of each side of each turn, below what is left of the
// old summary (nil: none), in at most maxTokens by count. The newest is kept first. It depends on nothing else.
func Extract(old *Summary, turns []Turn, maxTokens int, count func(string) int) *Summary {
	made := &Summary{Turns: len(turns), By: ByExtract}
	var lines []string
	if old != nil {
		made.Turns += old.Turns
		if old.Text != "" {
			lines = strings.Split(old.Text, "\n")
		}
	}
	remembered := min(tokens(lines, count), maxTokens/2)
	var newest []string
	for limit := excerptBytes; limit >= excerptBytes/8 && len(newest) == 0; limit /= 2 {
		newest = keepNewest(excerpts(turns, limit), maxTokens-remembered, count)
	}
	rest := maxTokens - tokens(newest, count)
	kept := keepNewest(lines, rest, count)
	if len(kept) == 0 && len(lines) > 0 {
		kept = beginning(lines[len(lines)-1], rest, count)
	}
	all := append(kept, newest...)
	for len(all) > 0 && count(strings.Join(all, "\n")) > maxTokens {
		all = all[1:]
	}
	made.Text = strings.Join(all, "\n")
	return made
}

// excerpts are the beginnings of the sides of each turn, a line each turn.
func excerpts(turns []Turn, limit int) []string {
	var lines []string
	for _, t := range turns {
		lines = append(lines, fmt.Sprintf("User: %s Assistant: %s", excerpt(t.User, limit), excerpt(t.Assistant, limit)))
	}
	return lines
}

func excerpt(text string, limit int) string {
	// A line's words are its content; no more is looked at than can be kept.
	return job.Cut(strings.Join(strings.Fields(job.Cut(text, 4*limit)), " "), limit)
}

// keepNewest returns the last lines that fit maxTokens together.
func keepNewest(lines []string, maxTokens int, count func(string) int) []string {
	i := len(lines)
	for used := 0; i > 0; i-- {
		used += tokens(lines[i-1:i], count)
		if used > maxTokens {
			break
		}
	}
	return lines[i:len(lines):len(lines)]
}

// beginning is as much of a line as fits, cut by halves.
func beginning(line string, maxTokens int, count func(string) int) []string {
	for ; len(line) > excerptBytes/8; line = job.Cut(line, len(line)/2) {
		if tokens([]string{line}, count) <= maxTokens {
			return []string{line}
		}
	}
	return nil
}

// tokens counts lines, and one for the end of each.
func tokens(lines []string, count func(string) int) int {
	n := 0
	for _, line := range lines {
		n += count(line) + 1
	}
	return n
}
