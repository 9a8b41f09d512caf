package registry_test

func childOpen(args []string) error { return nil }
func childStep(args []string) error { return nil }
