{{/* What the pods have in common: Ray's head and workers, and the jobs. Nothing here may depend on versions, on the time
     or on deployments, because Ray's pod templates are part of what KubeRay compares (tests/helm/test_stability.py). */}}

{{- define "clinserve.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user }}
runAsGroup: {{ .Values.user }}
fsGroup: {{ .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "clinserve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Labels of a pod: {{ include "clinserve.podLabels" (list . "gateway") }} */}}
{{- define "clinserve.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "clinserve.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- if include "clinserve.identity" . }}
azure.workload.identity/use: "true"
{{- end }}
{{- end -}}

{{/* Who the pods of a role are in Azure, if anybody: {{ include "clinserve.identity" (list . "engine") }}. Gateways ask Entra ID,
     Azure OpenAI and Blob Storage; engines and the prefetch job fetch weights. Nobody else gets a token. */}}
{{- define "clinserve.identity" -}}
{{- $azure := (index . 0).Values.azureWorkloadIdentity -}}
{{- if eq (index . 1) "gateway" }}{{ $azure.clientId }}{{ else if has (index . 1) (list "engine" "prefetch") }}{{ $azure.engineClientId }}{{ end -}}
{{- end -}}

{{/* The environment that the product reads: where its configuration and its secrets are.
     {{ include "clinserve.env" (list . "engine") }} */}}
{{- define "clinserve.env" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- {name: CLINSERVE_CONFIG, value: /etc/clinserve/config/clinserve.yaml}
- {name: HOME, value: /tmp/home}
- {name: XDG_CACHE_HOME, value: /tmp/cache}
{{- include "clinserve.secretEnv" . }}
{{- if $root.Values.offline }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- if has $role (list "engine" "prefetch") }}
{{- if eq (include "clinserve.weightsWritable" $root) "true" }}
- {name: HF_HOME, value: {{ $root.Values.weights.mountPath }}/hub}
{{- end }}
{{- with $root.Values.weights.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- if include "clinserve.identity" . }}
- {name: AZURE_TOKEN_CREDENTIALS, value: WorkloadIdentityCredential}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "clinserve.usesDatabase" -}}
{{- if or .Values.trial.enabled (dig "database" "url" "" .Values.config) }}true{{ end -}}
{{- end -}}

{{- define "clinserve.usesRedis" -}}
{{- if or .Values.trial.enabled (dig "quotas" "redis" "" .Values.config) }}true{{ end -}}
{{- end -}}

{{/* {{ include "clinserve.mounts" (list . "engine") }} */}}
{{- define "clinserve.mounts" -}}
{{- $root := index . 0 -}}
- {name: config, mountPath: /etc/clinserve/config, readOnly: true}
{{- with include "clinserve.secretsMount" . }}
{{ . }}
{{- end }}
- {name: tmp, mountPath: /tmp}
- {name: state, mountPath: {{ $root.Values.config.server.state_dir }}}
{{- with $root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* {{ include "clinserve.volumes" (list . "engine" $configMap) }}. Jobs that run before an upgrade have a ConfigMap of their
     own: the other is still the old one. */}}
{{- define "clinserve.volumes" -}}
{{- $root := index . 0 -}}
- {name: config, configMap: {name: {{ index . 2 }}}}
{{- with include "clinserve.secretsVolume" . }}
{{ . }}
{{- end }}
- {name: tmp, emptyDir: {sizeLimit: {{ $root.Values.tmpSize }}}}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Ray Serve's switches: serving/deployments/environment.py, node_environment (tested). KubeRay sets RAY_AUTH_MODE. */}}
{{- define "clinserve.rayEnv" -}}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING, value: "1"}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_HAPROXY_METRICS_ENABLED, value: "0"}
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: serving.deployments.http_middleware.middlewares}
- {name: RAY_SERVE_CONTROL_LOOP_INTERVAL_S, value: "0.5"}
- {name: RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS, value: "1"}
- {name: RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S, value: "1"}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S, value: "2"}
- {name: RAY_SERVE_HAPROXY_BINARY_PATH, value: /run/clinserve/haproxy}
- {name: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S, value: {{ add (include "clinserve.maxStream" .) 60 | quote }}}
- {name: RAY_SERVE_HAPROXY_CONFIG_FILE_LOC, value: /run/clinserve/haproxy.cfg}
- {name: RAY_SERVE_HAPROXY_SOCKET_PATH, value: /run/clinserve/admin.sock}
- {name: RAY_SERVE_HAPROXY_SERVER_STATE_BASE, value: /run/clinserve}
- {name: RAY_SERVE_HAPROXY_SERVER_STATE_FILE, value: /run/clinserve/server-state}
- {name: RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S, value: "60"}
{{- $proxies := int (dig "server" "trusted_proxies" 0 .Values.config) }}
- {name: CLINSERVE_PROXY_CONNECTIONS, value: {{ dig "server" "max_connections_per_address" (ternary 0 1024 (gt $proxies 0)) .Values.config | toString | quote }}}
- {name: RAY_worker_niceness, value: "0"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: DO_NOT_TRACK, value: "1"}
{{- end -}}

{{/* One of Ray's pods, as a template. `role` is head, gateway or engine; `pod` has the group's values.
     {{ include "clinserve.rayPod" (dict "root" . "role" "engine" "image" $image "pod" $group) }} */}}
{{- define "clinserve.rayPod" -}}
{{- $root := .root -}}
{{- $pod := .pod -}}
{{- $gpus := $pod.gpus | default 0 -}}
metadata:
  labels: {{- include "clinserve.podLabels" (list $root .role) | nindent 4 }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false" # Ray's autoscaler decides
spec:
  {{- with include "clinserve.imagePullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  serviceAccountName: {{ include "clinserve.serviceAccount" (list $root .role) }}
  automountServiceAccountToken: {{ eq .role "head" }} # the autoscaler asks the API server for pods
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "clinserve.grace" $root }}
  shareProcessNamespace: true # whose metrics are a living process's is seen in /proc
  securityContext: {{- include "clinserve.podSecurity" $root | nindent 4 }}
  {{- with $pod.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $pod.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $pod.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .role "head" }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "clinserve.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.role }}
    {{- end }}
  {{- end }}
  initContainers:
    - name: haproxy # the command that Ray Serve starts it with
      image: {{ .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [python3, -m, serving.deployments.environment, /run/clinserve]
      securityContext: {{- include "clinserve.containerSecurity" $root | nindent 8 }}
      resources: {limits: {cpu: 100m, memory: 128Mi}, requests: {cpu: 100m, memory: 128Mi}}
      volumeMounts:
        - {name: run, mountPath: /run/clinserve}
  containers:
    - name: ray-{{ eq .role "head" | ternary "head" "worker" }}
      image: {{ .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext: {{- include "clinserve.containerSecurity" $root | nindent 8 }}
      ports:
        {{- if eq .role "head" }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        {{- end }}
        - {name: serve, containerPort: {{ $root.Values.config.server.port }}}
        - {name: metrics, containerPort: 8080}
      env:
        {{- include "clinserve.env" (list $root .role) | nindent 8 }}
        {{- include "clinserve.rayEnv" $root | nindent 8 }}
        {{- with $pod.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if ne .role "head" }}
      lifecycle:
        preStop: # the endpoints forget this pod first
          exec: {command: [sleep, {{ $root.Values.preStopSeconds | quote }}]}
      {{- end }}
      resources:
        {{- range list "limits" "requests" }}
        {{ . }}:
          cpu: {{ $pod.cpu | quote }}
          memory: {{ $pod.memory }}
          {{- if $gpus }}
          {{ $pod.gpuResource | default "nvidia.com/gpu" }}: {{ $gpus | quote }}
          {{- end }}
        {{- end }}
      volumeMounts:
        {{- include "clinserve.mounts" (list $root .role) | nindent 8 }}
        - {name: run, mountPath: /run/clinserve}
        {{- with $pod.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if and (eq .role "gateway") (include "clinserve.filesClaim" $root) }}
        - {name: files, mountPath: {{ $root.Values.files.mountPath }}}
        {{- end }}
        {{- if and (eq .role "engine") (ne $root.Values.weights.kind "none") }}
        - {name: weights, mountPath: {{ $root.Values.weights.mountPath }}, readOnly: {{ ne (include "clinserve.weightsWritable" $root) "true" }}}
        {{- end }}
    {{- if ne .role "head" }}
    {{- include "clinserve.metricsContainer" . | nindent 4 }}
    {{- end }}
    {{- if and (eq .role "gateway") (eq (dig "telemetry" "request_log" "stdout" $root.Values.config) "file") }}
    {{- include "clinserve.logContainer" . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "clinserve.volumes" (list $root .role (printf "%s-config" (include "clinserve.fullname" $root))) | nindent 4 }}
    {{- with $pod.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    - {name: run, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
    {{- if and (eq .role "gateway") $root.Values.state.existingClaim }}
    - {name: state, persistentVolumeClaim: {claimName: {{ $root.Values.state.existingClaim }}}}
    {{- else }}
    - {name: state, emptyDir: {sizeLimit: {{ $root.Values.state.size }}}}
    {{- end }}
    {{- if and (eq .role "gateway") (include "clinserve.filesClaim" $root) }}
    - {name: files, persistentVolumeClaim: {claimName: {{ include "clinserve.filesClaim" $root }}}}
    {{- end }}
    {{- if and (eq .role "engine") (ne $root.Values.weights.kind "none") }}
    {{- include "clinserve.weightsVolume" $root | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Every pod answers scrapes for its own processes, vLLM's among them; the API's /metrics is one pod's, whichever. */}}
{{- define "clinserve.metricsContainer" -}}
- name: metrics
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [clinserve, metrics, --port, "9464"]
  securityContext: {{- include "clinserve.containerSecurity" .root | nindent 4 }}
  ports:
    - {name: clinserve, containerPort: 9464}
  env:
    - {name: CLINSERVE_CONFIG, value: /etc/clinserve/config/clinserve.yaml}
    - {name: HOME, value: /tmp/home}
  livenessProbe:
    httpGet: {path: /metrics, port: clinserve}
    initialDelaySeconds: 30
    periodSeconds: 30
    timeoutSeconds: 10
  readinessProbe:
    tcpSocket: {port: clinserve}
  resources: {limits: {cpu: 200m, memory: 384Mi}, requests: {cpu: 50m, memory: 384Mi}}
  volumeMounts:
    - {name: config, mountPath: /etc/clinserve/config, readOnly: true}
    - {name: state, mountPath: {{ .root.Values.config.server.state_dir }}}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* The request log on standard output, where the platform collects it: a Ray replica's own goes into Ray's files. */}}
{{- define "clinserve.logContainer" -}}
- name: request-log
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [tail, -n, "0", -F, {{ .root.Values.config.server.state_dir }}/logs/requests.jsonl]
  securityContext: {{- include "clinserve.containerSecurity" .root | nindent 4 }}
  resources: {limits: {cpu: 100m, memory: 32Mi}, requests: {cpu: 10m, memory: 32Mi}}
  volumeMounts:
    - {name: state, mountPath: {{ .root.Values.config.server.state_dir }}, readOnly: true}
{{- end -}}
