package taskertest_test

import (
	"testing"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
