package jobs

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

func TestAJobThatWasAnnouncedSinceItWasThereCameByEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heard
		require.Equal(t, telemetry.ClaimPoll, h.method("shop", time.Hour), "nothing was heard yet")
		h.note(`{"queue":"shop"}`)
		require.Equal(t, telemetry.ClaimEvent, h.method("shop", 0))
		require.Equal(t, telemetry.ClaimPoll, h.method("other", time.Hour), "another queue was announced")
		<-time.After(10 * time.Second) // in the time of the bubble
		require.Equal(t, telemetry.ClaimPoll, h.method("shop", 3*time.Second), "the notification was for an earlier job")
		require.Equal(t, telemetry.ClaimEvent, h.method("shop", 11*time.Second), "it waited for a slot, not for a poll")
		h.note("no JSON")
	})
}
