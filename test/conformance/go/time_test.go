package conformance

import (
	"strconv"
	"time"
)

// Unix milliseconds, as the store writes instants.
func milliseconds(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

// Sleeps until the clock shows another second.
func waitForNextSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }
