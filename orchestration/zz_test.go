package orchestration_test

import (
	"testing"
	"time"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/faulttest"
)

func TestZZ(t *testing.T) {
	url := dbtest.URL(t)
	d := newDriver(t, connect(t, url))
	s := shapes()[1]
	d.register(s)
	proxy := faulttest.NewProxy(t, url)
	broken := connect(t, proxy.URL(url))
	f := carryingFlows()[2]
	for range 4 {
		a := time.Now()
		sc := &scene{shape: s, wish: f.wish}
		f.before(d, sc)
		b := time.Now()
		proxy.Arm(faulttest.Rule{Match: func(statement string) bool { return statement == "commit" }, Mode: faulttest.CutAfter})
		err := f.run(d.via(broken), sc)
		proxy.Disarm()
		c := time.Now()
		recoverAll(d, f)
		t.Log(b.Sub(a), c.Sub(b), time.Since(c), err)
	}
}
