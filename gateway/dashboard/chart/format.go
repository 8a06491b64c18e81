package chart

import (
	"math"
	"strconv"
	"strings"
)

// Number writes a count with three digits at most: 7, 0.5, 12.5k, 3M.
func Number(v float64) string {
	if !known(v) {
		return "–"
	}
	units := []string{"", "k", "M", "G", "T"}
	i := 0
	for i < len(units)-1 && v >= 999.5 {
		v /= 1000
		i++
	}
	if v >= 9999.5 {
		return ">9999T"
	}
	return digits(v) + units[i]
}

// Seconds writes a duration: 4 ms, 1.5 s, 12 min.
func Seconds(v float64) string {
	switch {
	case !known(v):
		return "–"
	case v == 0:
		return "0"
	case v < 0.0000005:
		return "<1 µs"
	case v < 0.0009995:
		return digits(v*1e6) + " µs"
	case v < 0.9995:
		return digits(v*1000) + " ms"
	case v < 599.5:
		return digits(v) + " s"
	case v < 60*999.5:
		return digits(v/60) + " min"
	default:
		return Number(v/3600) + " h"
	}
}

// Percent writes a share of a whole: 0.3%, 100%. What is not nothing is not
// written as 0%, nor what is not all as 100%.
func Percent(part, whole float64) string {
	share := part / whole * 100
	switch {
	case !known(share):
		return "–"
	case share > 0 && share < 0.1:
		return "<0.1%"
	case share > 99.9 && share < 100:
		return ">99.9%"
	}
	return digits(share) + "%"
}

// digits writes up to three of them, and no zeros at the end of a fraction.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := min(max(2-int(math.Floor(math.Log10(v))), 0), 2)
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	if s == "0" {
		return "<0.01"
	}
	return s
}
