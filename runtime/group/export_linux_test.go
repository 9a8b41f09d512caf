package group

// Depose makes another replica the primary while the old one lives, which the
// supervisor itself never does: for tests of the fence.
func (g *Group) Depose() {
	g.s.ask(func() {
		s := g.s
		for _, r := range s.replicas {
			if r.index != s.reign.primary && r.state == ready {
				s.bequeath()
				s.rule(s.reign.epoch+1, r.index)
				return
			}
		}
	})
}

// SetStep has f called between the steps of replication.
func SetStep(cfg *MemberConfig, f func(string)) { cfg.step = f }
