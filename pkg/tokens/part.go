package tokens

import (
	"unicode"
	"unicode/utf8"
)

// The bounds of a part, in bytes. Without them one megabyte of space and newline in turns takes nine
// minutes, for the splitting expression is quadratic in a run of white space (measured: 32 KiB 0.5 s, 512
// bytes 0.1 ms), and one megabyte without any space takes 40 MB of memory, for it is merged as one word.
const (
	maxPart  = 32 << 10
	maxBlank = 512
)

// part returns where the first part of text ends.
//
// The best place is before a space that follows something else than white space: in the splitting
// expressions of all encodings a space only begins a piece, or continues white space.
func part(text string) int {
	border, blank := 0, -1
	for i, r := range text {
		switch {
		case !unicode.IsSpace(r):
			blank = -1
		case blank < 0:
			blank = i
			if r == ' ' {
				border = i
			}
		case i-blank >= maxBlank:
			return i
		}
		if i+utf8.RuneLen(r) > maxPart {
			if border > 0 {
				return border
			}
			return i
		}
	}
	return len(text)
}
