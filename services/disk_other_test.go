//go:build !linux

package services_test

import "errors"

func mountDisk(string, string) error {
	return errors.New("only Linux gives a process a disk of its own")
}
