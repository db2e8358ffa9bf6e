package main

import (
	"fmt"
	"maps"
	"strings"
)

// object is a JSON object; its keys are written in alphabetical order.
type object map[string]any

// interval is the time between two exports. As the least step of a query it makes $__rate_interval long enough, whatever the
// data source is set to.
const interval = "60s"

// panel is a part of a dashboard.
type panel struct {
	kind, title string
	// good says what a healthy system shows here.
	good    string
	text    string
	queries []query
	w, h    int
	// limit is where good ends; nil where there is no such number.
	limit *float64
	// options and custom go into Grafana's options and fieldConfig.defaults.custom, rest into the panel itself.
	options, custom, rest object
	format                string
}

// wide sets the width, of 24.
func (p *panel) wide(w int) { p.w = w }

// upTo draws where good ends.
func (p *panel) upTo(limit float64) *panel {
	p.limit = &limit
	return p
}

// bars shows events, which have no course between two values.
func (p *panel) bars() *panel {
	p.custom["drawStyle"], p.custom["fillOpacity"] = "bars", 60
	return p
}

func (b *board) add(p *panel) *panel {
	b.panels = append(b.panels, p)
	return p
}

func (b *board) row(title string) { b.add(&panel{kind: "row", title: title, w: 24, h: 1}) }

// note is text for the reader.
func (b *board) note(lines ...string) {
	b.add(&panel{kind: "text", title: "How to read this", good: "text", text: strings.Join(lines, "\n"), w: 24, h: 4})
}

// chart is a course over time.
func (b *board) chart(title, good string, queries ...query) *panel {
	return b.add(&panel{
		kind: "timeseries", title: title, good: good, queries: queries, w: 8, h: 8,
		custom: object{"lineWidth": 1, "fillOpacity": 8, "showPoints": "auto", "spanNulls": false},
		options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	})
}

// stat is one number.
func (b *board) stat(title, good string, q query) *panel {
	return b.add(&panel{
		kind: "stat", title: title, good: good, queries: []query{q}, w: 3, h: 5,
		options: object{
			"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "value",
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	})
}

// heatmap shows how a distribution moves.
func (b *board) heatmap(title, good string, q query) *panel {
	return b.add(&panel{
		kind: "heatmap", title: title, good: good, queries: []query{q}, w: 8, h: 8, format: "heatmap",
		options: object{
			"calculate": false, "cellGap": 1, "yAxis": object{"unit": q.unit}, "exemplars": object{"color": "rgba(255,0,255,0.7)"},
			"color":   object{"mode": "scheme", "scheme": "Oranges", "steps": 64},
			"tooltip": object{"mode": "single", "yHistogram": true}, "legend": object{"show": true},
		},
	})
}

// matrix is a table with a label's values down and another's across.
func (b *board) matrix(title, good, down, across string, q query) *panel {
	return b.add(&panel{
		kind: "table", title: title, good: good, queries: []query{q}, w: 12, h: 9, format: "table",
		custom:  object{"cellOptions": object{"type": "color-background", "mode": "gradient"}, "align": "center"},
		options: object{"showHeader": true},
		rest: object{"transformations": []object{{
			"id": "groupingToMatrix", "options": object{"rowField": down, "columnField": across, "valueField": "Value", "emptyValue": "null"},
		}}},
	})
}

// render makes the panel's JSON, without its place.
func (p *panel) render(datasource object) (object, error) {
	if p.kind == "row" {
		return object{"type": "row", "title": p.title, "collapsed": false, "panels": []object{}}, nil
	}
	if p.title == "" || p.good == "" {
		return nil, fmt.Errorf("panel %q says too little", p.title)
	}
	out := object{"type": p.kind, "title": p.title, "options": p.options}
	if p.kind == "text" {
		out["options"] = object{"mode": "markdown", "content": p.text}
		return out, nil
	}
	unit, targets, err := p.targets(datasource)
	if err != nil {
		return nil, err
	}
	out["datasource"], out["targets"] = datasource, targets
	out["description"] = p.queries[0].help + "\n\n**Good:** " + p.good
	out["fieldConfig"] = object{"defaults": p.defaults(unit), "overrides": []object{}}
	maps.Copy(out, p.rest)
	return out, nil
}

func (p *panel) targets(datasource object) (unit string, targets []object, err error) {
	if len(p.queries) == 0 {
		return "", nil, fmt.Errorf("panel %q asks for nothing", p.title)
	}
	unit = p.queries[0].unit
	for i, q := range p.queries {
		if q.unit != unit || unit == "" {
			return "", nil, fmt.Errorf("panel %q mixes the units %q and %q", p.title, unit, q.unit)
		}
		format := p.format
		if format == "" {
			format = "time_series"
		}
		targets = append(targets, object{
			"datasource": datasource, "refId": string(rune('A' + i)), "editorMode": "code", "expr": q.expr,
			"legendFormat": q.legend, "format": format, "interval": interval,
			"instant": q.instant, "range": !q.instant, "exemplar": q.exemplars && !q.instant,
		})
	}
	return unit, targets, nil
}

func (p *panel) defaults(unit string) object {
	steps := []object{{"color": "green", "value": nil}}
	custom := object{}
	maps.Copy(custom, p.custom)
	if p.limit != nil {
		steps = append(steps, object{"color": "red", "value": *p.limit})
		custom["thresholdsStyle"] = object{"mode": "dashed"}
	}
	defaults := object{"unit": unit, "custom": custom, "thresholds": object{"mode": "absolute", "steps": steps}}
	switch {
	case p.kind == "timeseries":
		defaults["min"] = 0
	case p.kind == "stat" && p.limit != nil: // what must not happen, and never did
		defaults["noValue"] = "0"
	}
	return defaults
}

// place puts panels side by side from the left, and into the next line when one is full.
func place(panels []*panel) []object {
	places := make([]object, len(panels))
	x, y, line := 0, 0, 0
	for i, p := range panels {
		if x+p.w > 24 {
			x, y, line = 0, y+line, 0
		}
		places[i] = object{"x": x, "y": y, "w": p.w, "h": p.h}
		x, line = x+p.w, max(line, p.h)
	}
	return places
}
