package main

import "testing"

func TestTheNewestOfAListAreKeptAndAllAreCounted(t *testing.T) {
	t.Parallel()
	all := []*letter{{id: "a"}, {id: "b"}, {id: "c"}, {id: "d"}, {id: "e"}, {id: "f"}, {id: "g"}}
	for limit, want := range map[int]string{0: "abcdefg", 1: "g", 2: "fg", 3: "efg", 4: "defg", 6: "bcdefg", 7: "abcdefg", 8: "abcdefg"} {
		l := listing[*letter]{limit: limit, read: func(each func(*letter) error) error {
			for _, one := range all {
				if err := each(one); err != nil {
					return err
				}
			}
			return nil
		}}
		kept, total, err := l.newest()
		got := ""
		for _, one := range kept {
			got += one.id
		}
		if err != nil || got != want || total != len(all) {
			t.Errorf("the newest %d: %s of %d, want %s; %v", limit, got, total, want, err)
		}
	}
}
