package group

// Depose makes another replica the primary while the old one lives, which the
// supervisor itself never does: for tests of the fence.
func (g *Group) Depose() {
	g.s.ask(func() {
		s := g.s
		for _, r := range s.replicas {
			if r.index != s.reign.primary && r.state == ready && g.MayRule(r.index) {
				s.endReign()
				s.rule(s.reign.epoch+1, r.index)
				return
			}
		}
	})
}

// MayRule reports whether a replica has all that was answered.
func (g *Group) MayRule(index int) bool {
	p := g.s.page
	return g.s.cfg.Replication == nil || p.inSync(p.reign().epoch)&(1<<index) != 0 && p.whole(index)
}
