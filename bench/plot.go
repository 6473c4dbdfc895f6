package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plots are SVG by hand: bars and lines with their names beside them, which is all that is needed here.

const (
	plotWidth  = 820
	labelWidth = 200
	barHeight  = 22
	ink        = "#24292f"
	faint      = "#d0d7de"
)

// bar is one bar of a chart: from the beginning to value, with a mark further on, if there is one.
type bar struct {
	name  string
	ours  bool
	value float64
	mark  float64 // 0: none
	text  string
}

// canvas collects the elements of a picture.
type canvas struct {
	strings.Builder
	height float64
}

func newCanvas(height float64, title string) *canvas {
	c := &canvas{height: height}
	c.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" font-family="sans-serif" font-size="12" fill="%s">`, plotWidth, height, ink)
	c.add(`<title>%s</title>`, html.EscapeString(title))
	c.add(`<rect width="%d" height="%.0f" fill="#ffffff"/>`, plotWidth, height)
	c.add(`<text x="12" y="20" font-size="14" font-weight="bold">%s</text>`, html.EscapeString(title))
	return c
}

func (c *canvas) add(format string, args ...any) { _, _ = fmt.Fprintf(c, format+"\n", args...) }

func (c *canvas) text(x, y float64, anchor, color, text string) {
	c.add(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, x, y, anchor, color, html.EscapeString(text))
}

func (c *canvas) line(x1, y1, x2, y2 float64, color string) {
	c.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x1, y1, x2, y2, color)
}

func (c *canvas) done() string { return c.String() + "</svg>\n" }

// logScale maps values from low to high on from to to, by their logarithms. Both ends are powers of ten.
type logScale struct{ low, high, from, to float64 }

func newLogScale(values []float64, from, to float64) logScale {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if low == high {
		high *= 10
	}
	return logScale{low, high, from, to}
}

func (s logScale) at(v float64) float64 {
	v = min(max(v, s.low), s.high)
	return s.from + (s.to-s.from)*math.Log10(v/s.low)/math.Log10(s.high/s.low)
}

// ticks are the powers of ten.
func (s logScale) ticks() (ticks []float64) {
	for v := s.low; v <= s.high*1.001; v *= 10 {
		ticks = append(ticks, v)
	}
	return ticks
}

// bars draws a chart of bars with a logarithmic scale.
func bars(title string, all []bar) string {
	c := newCanvas(float64(70+barHeight*len(all)), title)
	var values []float64
	for _, b := range all {
		values = append(values, b.value, b.mark)
	}
	s := newLogScale(values, labelWidth, plotWidth-150)
	bottom := float64(34 + barHeight*len(all))
	for _, v := range s.ticks() {
		c.line(s.at(v), 32, s.at(v), bottom, faint)
		c.text(s.at(v), bottom+16, "middle", ink, short(v))
	}
	for i, b := range all {
		y := float64(34 + barHeight*i)
		c.text(labelWidth-8, y+15, "end", ink, b.name)
		if b.value <= 0 {
			continue
		}
		end := s.at(b.value)
		c.add(`<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y+3, max(end-labelWidth, 1), barHeight-6, color(b.ours, i))
		if b.mark > 0 {
			c.line(end, y+barHeight/2, s.at(b.mark), y+barHeight/2, ink)
			c.line(s.at(b.mark), y+5, s.at(b.mark), y+barHeight-5, ink)
			end = s.at(b.mark)
		}
		c.text(end+6, y+15, "start", ink, b.text)
	}
	return c.done()
}

// curve is one line of a chart.
type curve struct {
	name string
	ours bool
	x, y []float64
}

// lines draws a chart of lines, both scales logarithmic, with the names at their right ends.
func lines(title, below string, all []curve) string {
	const top, bottom, right = 40.0, 440.0, plotWidth - 210.0
	c := newCanvas(490, title)
	var xs, ys []float64
	for _, l := range all {
		xs, ys = append(xs, l.x...), append(ys, l.y...)
	}
	vertical := newLogScale(ys, bottom, top)
	for _, v := range vertical.ticks() {
		c.line(60, vertical.at(v), right, vertical.at(v), faint)
		c.text(54, vertical.at(v)+4, "end", ink, short(v))
	}
	horizontal := logScale{1, 1, 60, right}
	for _, x := range xs {
		horizontal.high = max(horizontal.high, x)
	}
	horizontal.high = max(horizontal.high, 2)
	drawn := map[float64]bool{}
	for _, x := range xs {
		if !drawn[x] {
			drawn[x] = true
			c.text(horizontal.at(x), bottom+18, "middle", ink, short(x))
		}
	}
	c.text((60+right)/2, bottom+38, "middle", ink, below)
	c.curves(all, horizontal, vertical)
	return c.done()
}

// curves draws the lines, and their names far enough from each other to be read.
func (c *canvas) curves(all []curve, horizontal, vertical logScale) {
	var ends []float64
	for i, l := range all {
		var points []string
		for k := range l.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", horizontal.at(l.x[k]), vertical.at(l.y[k])))
		}
		width := 1.5
		if l.ours {
			width = 3
		}
		c.add(`<polyline fill="none" stroke="%s" stroke-width="%.1f" points="%s"/>`, color(l.ours, i), width, strings.Join(points, " "))
		ends = append(ends, vertical.at(l.y[len(l.y)-1]))
	}
	for i, y := range apart(ends, 15) {
		c.line(horizontal.to, ends[i], horizontal.to+14, y, color(all[i].ours, i))
		c.text(horizontal.to+18, y+4, "start", color(all[i].ours, i), all[i].name)
	}
}

// apart moves positions down until no two are nearer than gap, in their order.
func apart(positions []float64, gap float64) []float64 {
	order := make([]int, len(positions))
	for i := range order {
		order[i] = i
	}
	sortBy(order, func(i int) float64 { return positions[i] })
	moved := make([]float64, len(positions))
	last := math.Inf(-1)
	for _, i := range order {
		moved[i] = max(positions[i], last+gap)
		last = moved[i]
	}
	return moved
}

// color tells ours from the others, and one from the next.
func color(ours bool, i int) string {
	if ours {
		return []string{"#cf222e", "#953800", "#e16f24", "#bf3989"}[i%4]
	}
	return []string{"#0969da", "#1a7f37", "#57606a", "#8250df", "#0a7f8c", "#7d4e00", "#4d2d00"}[i%7]
}

// short is a number for an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
