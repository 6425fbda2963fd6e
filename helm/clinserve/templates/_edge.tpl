{{/* What the outside may ask for. Not here, and so not reachable: /_engine, /metrics, /admin, /livez, /health, /readyz. */}}
{{- define "clinserve.publicPaths" -}}
- /v1
- /openai
- /models
{{- if .Values.edge.console }}
- /console
- /admin/v1 # the console asks it; keys and roles guard it
{{- end }}
{{- if .Values.edge.docs }}
- /docs
- /openapi.json
{{- end }}
{{- end -}}
