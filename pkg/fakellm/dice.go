package fakellm

import (
	"math"
	"time"
)

// dice is a small deterministic source of chance: SplitMix64 (Steele, Lea, Flood 2014), which needs no
// allocation and is well mixed from any seed.
type dice struct{ state uint64 }

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return finish64(d.state)
}

// below returns a number from 0 to n-1; n is at least 1.
func (d *dice) below(n int) int { return int(d.next() % uint64(n)) }

// float returns a number from 0 to below 1.
func (d *dice) float() float64 { return float64(d.next()>>11) / (1 << 53) }

// normal returns a draw of the standard normal distribution (Box-Muller).
func (d *dice) normal() float64 {
	u := 1 - d.float()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*d.float())
}

// lognormal returns a draw of the lognormal distribution with the given median.
func (d *dice) lognormal(median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*d.normal()))
}

// scramble spreads neighbouring seeds over all 64 bits.
func scramble(x uint64) uint64 { return finish64(x + 0x9e3779b97f4a7c15) }

func finish64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
